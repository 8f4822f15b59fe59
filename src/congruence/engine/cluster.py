"""Dask: workers of our own or a scheduler somewhere, as an executor. Dask is imported here and nowhere else."""

from __future__ import annotations

import asyncio
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from congruence.errors import CongruenceError, ParameterError, WorkerError
from congruence.validate import require_extra

Result = TypeVar("Result")

CONNECT_SECONDS = 5.0
"""How long a scheduler may take to answer; with all that comes before, an error is there within 10 seconds."""

ASK_SECONDS = 10.0
"""How often a scheduler is asked how many workers it has."""


class DaskExecutor(Executor):
    """The executor of a Dask client, which knows how many workers there are and which errors are theirs.

    Parameters
    ----------
    client : distributed.Client
        A connected client; who opened it closes it.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        # Not pure: Dask would hash every tile to see whether it knows it already.
        self._executor = client.get_executor(pure=False)
        self._slots, self._asked = 1, -math.inf

    @property
    def slots(self) -> int:
        """How many tiles the workers can compute at once; the scheduler is asked now and then, as workers come and go."""
        if time.monotonic() > self._asked + ASK_SECONDS:
            # A scheduler that does not answer shows in the tiles that it has.
            with suppress(OSError):
                self._slots = max(1, sum(self._client.nthreads().values()))
            self._asked = time.monotonic()
        return self._slots

    def submit(self, work: Callable[..., Result], /, *arguments: Any, **options: Any) -> Future[Result]:
        """Send work to a worker."""
        future: Future[Result] = self._executor.submit(work, *arguments, **options)
        return future

    def lost(self, error: BaseException) -> WorkerError | None:
        """Return what an error means if it is not one of the work's own: workers that died, a scheduler that is gone."""
        distributed = require_extra("distributed", "dask", "Dask")
        if isinstance(error, distributed.KilledWorker):
            message = f"Dask gave up: a tile was tried several times, and each time its worker died ({error})."
            return WorkerError(f"{message} {GO_ON}")
        gone = self._client.status != "running" and not isinstance(error, CongruenceError)
        if gone or isinstance(error, CancelledError | asyncio.CancelledError | distributed.comm.CommClosedError):
            return WorkerError(f"The Dask scheduler is gone, or it dropped our work. {GO_ON}")
        if isinstance(error, RuntimeError) and "deserialization of the task graph" in str(error):
            message = (
                f"The Dask workers cannot load what they are sent ({error.__cause__}). Install there what is installed "
                "here: congruence, and the modules in which your own measures are."
            )
            return WorkerError(message)
        return None


GUARD = (
    "If they die at once in a script, call from under `if __name__ == '__main__':`, since each of them runs the script "
    "again."
)

GO_ON = (
    "If memory ran out, give fewer workers or a smaller memory budget. What is done stays in the run folder, if there is "
    "one: resume it."
)


@contextmanager
def dask_executor(address: str) -> Iterator[DaskExecutor]:
    """Yield the executor of a scheduler, or of workers of our own (``"local:4"``).

    Raises
    ------
    ParameterError
        If the address means nothing, or no scheduler answers there.
    WorkerError
        If workers of our own cannot be started.
    """
    kind, _, count = address.partition(":")
    if kind != "local" and "://" not in address:
        message = f"executor must be 'serial', 'threads', 'processes', 'local:N' or a scheduler's address such as 'tcp://host:8786'; got {address!r}."
        raise ParameterError(message)
    distributed = require_extra("distributed", "dask", "Dask")
    if kind != "local":
        with _connected(distributed, address) as client:
            yield DaskExecutor(client)
        return
    if not count.isdigit() or int(count) < 1:
        message = f"'{address}': write local:N with N workers, such as local:4."
        raise ParameterError(message)
    with interrupts_ignored():
        try:
            started = distributed.LocalCluster(
                n_workers=int(count), threads_per_worker=1, processes=True, dashboard_address=":0"
            )
        except RuntimeError as error:
            message = f"The {count} Dask workers of '{address}' cannot be started ({error}). {GUARD}"
            raise WorkerError(message) from error
    with started as cluster, distributed.Client(cluster) as client:
        yield DaskExecutor(client)


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Let processes that are started meanwhile ignore Ctrl-C, which a terminal sends to all: this one ends them."""
    if threading.current_thread() is not threading.main_thread():  # only that one may say what signals do
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _connected(distributed: Any, address: str) -> Any:
    """Return a client, or say within seconds why there is none."""
    deadline = time.monotonic() + CONNECT_SECONDS
    fault = _greeted(distributed, address)
    if fault is None:
        try:
            return distributed.Client(address, timeout=max(1.0, deadline - time.monotonic()))
        except (OSError, TimeoutError) as error:
            fault = error
    message = f"No Dask scheduler answers at {address} ({_why(fault)}); start one with 'dask scheduler', or check the address."
    raise ParameterError(message) from fault


def _why(fault: BaseException) -> str:
    if isinstance(fault, MemoryError):
        return "something else listens there"  # its first bytes were taken for the size of a message
    if isinstance(fault, TimeoutError) or "Timed out" in str(fault):
        return f"waited {CONNECT_SECONDS:g} s"
    return str(fault) or type(fault).__name__


def _greeted(distributed: Any, address: str) -> BaseException | None:
    """Shake hands at an address; return what went wrong.

    In a thread that can be left behind: a name server that does not answer blocks, a client waits for ever for a port
    that accepts and is silent, and takes the first bytes of any other service for the size of a message.
    """
    found: list[BaseException | None] = []

    async def greet() -> None:
        security = distributed.Security().get_connection_args("client")
        comm = await asyncio.wait_for(distributed.comm.connect(address, CONNECT_SECONDS, **security), CONNECT_SECONDS)
        comm.abort()

    def attempt() -> None:
        try:
            asyncio.run(greet())
        except Exception as error:  # whatever it is, no scheduler answered
            found.append(error)
        else:
            found.append(None)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(CONNECT_SECONDS + 0.5)
    return found[0] if found else TimeoutError("no answer")
