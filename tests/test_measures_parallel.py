"""Threads over independent work: the limit on linear algebra belongs to all of them."""

from __future__ import annotations

import threading

from threadpoolctl import threadpool_info, threadpool_limits

from congruence.measures.parallel import on_one_core, one_thread_each, parallel


def threads() -> set[int]:
    """Return how many threads the linear algebra libraries may use."""
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_the_limit_holds_until_whoever_handed_out_the_work_has_left():
    def work() -> None:
        with one_thread_each():
            pass

    with threadpool_limits(2):
        before = threads()
        with one_thread_each():
            other = threading.Thread(target=work)
            other.start()
            other.join(30)
            assert threads() == {1}  # the worker has left, we are still inside
        assert threads() == before


def test_results_keep_the_order_of_the_items():
    assert parallel(lambda k: k * k, range(7)) == [k * k for k in range(7)]
    with on_one_core():
        assert parallel(lambda k: threading.get_ident(), range(3)) == [threading.get_ident()] * 3
