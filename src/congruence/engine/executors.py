"""Where tiles are computed: here, on threads, in processes, or wherever an executor sends them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any

from congruence.engine.job import Row
from congruence.engine.tiles import States, Tile
from congruence.errors import ParameterError
from congruence.measures.parallel import cores, on_one_core, one_thread_each
from congruence.validate import require_extra

CONNECT_SECONDS = 10


@contextmanager
def opened(spec: Any) -> Iterator[Executor | None]:
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
        with ProcessPoolExecutor(cores(), mp_context=multiprocessing.get_context("spawn")) as pool:
            yield pool
    elif isinstance(spec, str):
        with _dask_client(spec) as client:
            yield client.get_executor()
    elif isinstance(spec, Executor):
        yield spec
    elif callable(getattr(spec, "get_executor", None)):  # a Dask client, without importing Dask
        yield spec.get_executor()
    else:
        message = f"executor must be 'serial', 'threads', 'processes', a Dask address or client, or an Executor; got {spec!r}."
        raise ParameterError(message)


@contextmanager
def _dask_client(address: str) -> Iterator[Any]:
    """Yield a client of a scheduler, or of workers of our own (``"local:4"``)."""
    kind, _, count = address.partition(":")
    if kind != "local" and "://" not in address:
        message = f"executor must be 'serial', 'threads', 'processes', 'local:N' or a scheduler's address such as 'tcp://host:8786'; got {address!r}."
        raise ParameterError(message)
    distributed = require_extra("distributed", "dask", "Dask")
    if kind == "local":
        if not count.isdigit() or int(count) < 1:
            message = f"'{address}': write local:N with N workers, such as local:4."
            raise ParameterError(message)
        with (
            distributed.LocalCluster(
                n_workers=int(count), threads_per_worker=1, processes=True, dashboard_address=None
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            yield client
        return
    try:
        client = distributed.Client(address, timeout=CONNECT_SECONDS)
    except (OSError, TimeoutError) as error:
        message = f"No Dask scheduler answers at {address} within {CONNECT_SECONDS} s; start one, or check the address."
        raise ParameterError(message) from error
    with client:
        yield client


def compute_tiles(tiles: Sequence[Tile], executor: Executor | None) -> Iterator[tuple[Tile, list[Row]]]:
    """Yield every tile with its rows as it is finished.

    Here, states are kept from one tile to the next, and the cores share the work inside a tile. Elsewhere every tile is
    one piece of work on one core. The numbers are the same to the last bit, since they do not depend on how many cores
    take part.
    """
    if executor is None:
        yield from _here(tiles)
        return
    futures: dict[Future[list[Row]], Tile] = {executor.submit(compute_alone, tile): tile for tile in tiles}
    try:
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        for future in futures:
            future.cancel()


def _here(tiles: Sequence[Tile]) -> Iterator[tuple[Tile, list[Row]]]:
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
