"""Measures that kill the process they run in; a module of its own, so that workers can import it."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from congruence.measures import Measure, MeasureInfo, Workload, measure

FOLDER = "CONGRUENCE_TEST_FOLDER"
"""Environment variable: where a killer leaves word that it has been there."""

DEADLY = (4, 5)
"""Widths of the pair that kills."""


@dataclass(frozen=True)
class Deadly(Measure[int]):
    """Compares widths, one pair a tile; one pair kills its process by SIGKILL, `times` times."""

    name: ClassVar[str] = "deadly"
    times: int = 1
    seconds: float = 0.0

    @property
    def info(self) -> MeasureInfo:
        return replace(measure("linear_regression").info, label=self.label)

    def prepare(self, x: Any) -> int:
        return int(x.shape[1])

    def compare(self, a: int, b: int) -> float:
        time.sleep(self.seconds)
        if self.times and (a, b) == DEADLY:
            _die(self.times)
        return a / (a + b)

    def compare_block(self, first: Any, second: Any) -> Any:
        raise NotImplementedError

    def workload(self, n: int, p: int, count: int) -> Workload:
        return Workload("pair loop", "for the test", 1.0, 1e12, 8, 8)


def _die(times: int) -> None:
    folder = Path(os.environ[FOLDER])
    deaths = len(list(folder.iterdir()))
    if deaths < times:
        (folder / str(deaths)).touch()
        os.kill(os.getpid(), signal.SIGKILL)
