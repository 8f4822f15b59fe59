"""Where tiles are computed: here, on threads, in processes, or wherever an executor sends them."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

from congruence.engine.cluster import GO_ON, GUARD, DaskExecutor, dask_executor
from congruence.engine.job import Row
from congruence.engine.tiles import States, Tile
from congruence.errors import ParameterError, WorkerError
from congruence.measures.parallel import cores, on_one_core, one_thread_each


@runtime_checkable
class Submits(Protocol):
    """What tiles need of an executor."""

    def submit(self, work: Callable[..., Any], /, *arguments: Any) -> Any:
        """Start work elsewhere and return its Future."""


@contextmanager
def opened(spec: Any) -> Iterator[Submits | None]:
    """Yield the executor that `spec` names; None computes here.

    Parameters
    ----------
    spec : None, str or object
        None or ``"serial"``; ``"threads"`` or ``"processes"``; ``"local:4"`` or a scheduler's address for Dask; a Dask
        Client; or anything with the interface of `concurrent.futures.Executor`. What is opened here is closed here.

    Raises
    ------
    ParameterError
        If the specification means nothing, or a scheduler cannot be reached.
    """
    if spec is None or spec == "serial":
        yield None
    elif spec == "threads":
        with ThreadPoolExecutor(cores()) as pool:
            yield pool
    elif spec == "processes":
        context = multiprocessing.get_context("spawn")
        ignore = (signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to all processes, and this one ends them
        with ProcessPoolExecutor(cores(), mp_context=context, initializer=signal.signal, initargs=ignore) as pool:
            yield pool
    elif isinstance(spec, str):
        with dask_executor(spec) as remote:
            yield remote
    elif isinstance(spec, Executor):
        yield spec
    elif callable(getattr(spec, "get_executor", None)):  # a Dask client, without importing Dask
        yield DaskExecutor(spec)
    elif isinstance(spec, Submits):
        yield spec
    else:
        message = f"executor must be 'serial', 'threads', 'processes', a Dask address or client, or an Executor; got {spec!r}."
        raise ParameterError(message)


def compute_tiles(tiles: Iterable[Tile], executor: Submits | None) -> Iterator[tuple[Tile, list[Row]]]:
    """Yield every tile with its rows as it is finished.

    Here, states are kept from one tile to the next, and the cores share the work inside a tile. Elsewhere every tile is
    one piece of work on one core. The numbers are the same to the last bit, since they do not depend on how many cores
    take part.

    Raises
    ------
    WorkerError
        If the process that computed a tile died. Tiles that were finished by then have been yielded.
    """
    if executor is None:
        yield from _here(tiles)
        return
    with one_thread_each():  # held here, since threads that limit themselves would lift it for one another
        yield from _elsewhere(tiles, executor)


def _elsewhere(tiles: Iterable[Tile], executor: Submits) -> Iterator[tuple[Tile, list[Row]]]:
    left, running = iter(tiles), dict[Future[list[Row]], Tile]()
    try:
        while True:
            # A few more than there are workers: what has been sent off takes memory, here and at a scheduler.
            for tile in itertools.islice(left, max(0, _most_at_once(executor) - len(running))):
                running[_sent(executor, tile)] = tile
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in sorted(done, key=_has_failed):  # those that succeeded first: they are recorded
                with _faults_of(executor):
                    rows = future.result()
                yield running.pop(future), rows
    finally:
        for future in running:
            future.cancel()


def _most_at_once(executor: Submits) -> int:
    """Return how many tiles may be under way."""
    return 2 * executor.slots if isinstance(executor, DaskExecutor) else 4 * cores()


def _sent(executor: Submits, tile: Tile) -> Future[list[Row]]:
    with _faults_of(executor):
        future = executor.submit(compute_alone, tile.to_send())
    if not isinstance(future, Future):
        message = (
            f"{type(executor).__name__}.submit must return a concurrent.futures.Future; got {type(future).__name__}."
        )
        raise ParameterError(message)
    return future


def _has_failed(future: Future[list[Row]]) -> bool:
    return future.cancelled() or future.exception() is not None


@contextmanager
def _faults_of(executor: Submits) -> Iterator[None]:
    """Of an error that is not the tile's own, say what it means."""
    try:
        yield
    except BrokenExecutor as error:
        message = f"A worker process died before its tile was done ({error}). {GO_ON} {GUARD}"
        raise WorkerError(message) from error
    except (Exception, asyncio.CancelledError) as error:
        lost = executor.lost(error) if isinstance(executor, DaskExecutor) else None
        if lost is None:
            raise
        raise lost from error


def _here(tiles: Iterable[Tile]) -> Iterator[tuple[Tile, list[Row]]]:
    states: States | None = None
    label = ""
    for tile in tiles:
        if states is None or tile.measure.label != label:
            states, label = States(tile.measure, tile.how), tile.measure.label
        with one_thread_each():
            rows = tile.compute(states)
        yield tile, rows


def compute_alone(tile: Tile) -> list[Row]:
    """Compute a tile on one core (what is sent to a worker)."""
    with on_one_core():
        return tile.compute()
