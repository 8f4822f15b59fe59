"""Work on batches against bare forward passes of the same batches, in turn, so that both meet the same machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass
class InTurn:
    """Batches that time bare forwards of each before they hand it on, and the consumer's work on it after."""

    models: list[torch.nn.Module]
    batches: list[Any]
    bare: list[float] = field(default_factory=list)
    worked: list[float] = field(default_factory=list)

    def __iter__(self) -> Iterator[Any]:
        for batch in self.batches:
            start = time.perf_counter()
            with torch.inference_mode():
                for model in self.models:
                    model(**batch)
            handed = time.perf_counter()
            self.bare.append(handed - start)
            yield batch
            self.worked.append(time.perf_counter() - handed)

    @property
    def ratio(self) -> float:
        """Median over batches of work over bare forwards; the first, which carries what is done once, is left out."""
        return statistics.median(a / b for a, b in zip(self.worked[1:], self.bare[1:], strict=True))
