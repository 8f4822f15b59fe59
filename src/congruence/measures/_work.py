"""What a measure costs, from shapes alone: the planner adds these up."""

from __future__ import annotations

from dataclasses import dataclass

FLOAT = 8  # bytes

BLOCK = 128
"""Stimuli a block of a Gram stream."""


GRAM_STREAM = "Gram stream"
"""The form in which the rows of Gram matrices are stacked, and all pairs are one product."""


@dataclass(frozen=True)
class Workload:
    """Cost of one measure on representations of shape (n, p).

    Parameters
    ----------
    form : str
        What the block kernel works on, such as ``"Gram stream"``.
    why : str
        Why this form and no other, for people.
    prepare_flops, pair_flops : float
        Floating-point operations of preparing one representation, and of one pair.
    state_bytes : int
        Size of one prepared state.
    scratch_bytes : int
        Temporary memory while one representation is prepared (a thread).
    streams : bool
        Whether the measure can work through segments of stimuli without holding all states (`StreamingMeasure`).
    block_flops : float
        The part of `prepare_flops` that is done by the block kernel and does not end up in the state.
    decomposes : bool
        Whether every pair needs a decomposition of its own.
    stack_bytes : int
        Memory that one representation takes in what the block kernel stacks up beside the states, if there is room.
    remade : bool
        Whether each pass over segments makes whole kernel matrices again, and not only the rows of its segment.
    """

    form: str
    why: str
    prepare_flops: float
    pair_flops: float
    state_bytes: int
    scratch_bytes: int
    streams: bool = False
    block_flops: float = 0.0
    decomposes: bool = False
    stack_bytes: int = 0
    remade: bool = True


def rows_bytes(n: int) -> int:
    """Return the size of the rows of one Gram matrix in a stream, which holds a block up to its diagonal."""
    return FLOAT * min(n * n, n * (n + BLOCK) // 2)


def factor_work(n: int, width: int, count: int, *, prepare: float = 0.0) -> Workload:
    """Return the cost of comparing Gram matrices of factors (n, width), in the cheaper of two forms.

    Products of the factors cost 2 n width² a pair. The stream costs n² width a representation, to make the lower half
    of every Gram matrix, and then n² a pair.
    """
    state, scratch = FLOAT * n * width, 4 * FLOAT * n * width
    products = 2.0 * n * width * width
    stream = 1.0 * n * n + 2.0 * n * n * width / max(count, 1)
    if products <= stream:
        why = (
            f"factors of width {width} on {n} stimuli: their products cost less than the n x n Gram matrices of {count}"
        )
        return Workload("factor products", why, prepare, products, state, scratch, stack_bytes=state)
    why = f"{count} representations: making every Gram matrix once leaves n^2 a pair instead of 2 n p^2"
    rows = 1.0 * n * n * width
    stacked = rows_bytes(n)
    return Workload(
        GRAM_STREAM, why, prepare + rows, 1.0 * n * n, state, scratch, block_flops=rows, stack_bytes=stacked
    )


def gram_work(n: int, p: int, *, passes: float) -> Workload:
    """Return the cost of comparing centred n x n kernel matrices, made with `passes` sweeps over their entries."""
    why = "the kernel matrix is not a product of small factors, so it is made once and compared entry by entry"
    matrix = FLOAT * n * n
    prepare = 1.0 * n * n * p + passes * n * n
    return Workload(GRAM_STREAM, why, prepare, 1.0 * n * n, matrix, 5 * matrix, streams=True, stack_bytes=rows_bytes(n))


def spectral_work(n: int, q: int, form: str, why: str, *, prepare: float, vectors: bool = False) -> Workload:
    """Return the cost of a decomposition of the (q, q) product of two factors (n, q) for every pair."""
    decompose = (9.0 if vectors else 4 / 3) * q**3
    pair = 2.0 * n * q * q + 1.0 * q**3 + decompose
    return Workload(form, why, prepare, pair, FLOAT * n * q, 4 * FLOAT * n * q, decomposes=True)
