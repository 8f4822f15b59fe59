"""Threads over independent work, with one-thread linear algebra inside: decompositions do not scale with threads.

Work is divided in the same way however many cores there are, and BLAS keeps to one thread in it, so that a result does
not depend on the machine's cores down to the last bit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TypeVar

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
    """Keep BLAS and LAPACK to one thread while we run one piece of work a thread.

    The limit holds for the whole process, until the thread that set it leaves: whoever hands work to threads that limit
    themselves holds it meanwhile, or the first of them to finish would lift it for the others.
    """
    with _controller().limit(limits=1):
        yield


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
