"""Threads over independent work, with one-thread linear algebra inside: decompositions do not scale with threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")
Result = TypeVar("Result")


@cache
def _controller() -> ThreadpoolController:
    """Return the handle of the linear algebra libraries that are loaded; finding them takes milliseconds."""
    return ThreadpoolController()


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Keep BLAS and LAPACK to one thread while we run one pair a thread: decompositions do not scale with threads."""
    with _controller().limit(limits=1):
        yield


def parallel(work: Callable[[Item], Result], items: Sequence[Item], *, threaded: bool = True) -> list[Result]:
    """Return [work(item) for item in items], over the cores with one-thread linear algebra where that helps."""
    workers = min(cores(), len(items)) if threaded else 1
    if workers <= 1:
        return [work(item) for item in items]
    with one_thread_each(), ThreadPoolExecutor(workers) as pool:
        return list(pool.map(work, items))
