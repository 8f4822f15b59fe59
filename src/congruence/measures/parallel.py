"""Threads over independent work, with one-thread linear algebra inside: decompositions do not scale with threads.

Work is divided in the same way however many cores there are, and BLAS keeps to one thread in it, so that a result does
not depend on the machine's cores down to the last bit.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")
Result = TypeVar("Result")

_alone: ContextVar[bool] = ContextVar("_alone", default=False)


@cache
def _controller() -> ThreadpoolController:
    """Return the handle of the linear algebra libraries that are loaded; finding them takes milliseconds."""
    return ThreadpoolController()


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Keep BLAS and LAPACK to one thread while we run one piece of work a thread."""
    _limit.enter()
    try:
        yield
    finally:
        _limit.leave()


class _Limit:
    """The one limit of a process: set by the first who asks for it, and lifted by the last.

    It holds for all threads, so whoever is done first must not lift it while others count on it.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._limiter: Any = None

    def enter(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._limiter = _controller().limit(limits=1)
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._limiter.restore_original_limits()


_limit = _Limit()


@contextmanager
def on_one_core() -> Iterator[None]:
    """Keep all that happens inside to the thread it is in: for workers of which there are several already."""
    token = _alone.set(True)
    try:
        with one_thread_each():
            yield
    finally:
        _alone.reset(token)


def parallel(work: Callable[[Item], Result], items: Sequence[Item], *, threaded: bool = True) -> list[Result]:
    """Return [work(item) for item in items], over the cores with one-thread linear algebra where that helps."""
    if not threaded:
        return [work(item) for item in items]
    workers = 1 if _alone.get() else min(cores(), len(items))
    with one_thread_each():
        if workers <= 1:
            return [work(item) for item in items]
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(work, items))
