"""An extraction in a process of its own, so that a test can kill it."""

from functools import partial
from pathlib import Path

import torch
from torch import nn

import congruence as cg
from congruence.extraction import run
from congruence.store import StoreWriter

BATCHES, N, D = 40, 8, 16


class Net(nn.Module):
    """Rows, images and sequences in one forward."""

    def __init__(self):
        super().__init__()
        self.conv, self.lstm, self.fc = nn.Conv1d(D, 4, 3), nn.LSTM(D, 8, batch_first=True), nn.Linear(8, 5)

    def forward(self, x):
        self.conv(x.transpose(1, 2)[:, :, :3])
        return self.fc(self.lstm(x)[0][:, -1])


def make():
    """Return the same model and batches in every process; the sequences differ in length."""
    torch.manual_seed(0)
    return Net(), [torch.randn(N, 3 + 5 * index % 40, D) for index in range(BATCHES)]


def work(out: str, started: str, *, resume: bool = False) -> None:
    """Extract to `out`, committing all the time; the file `started` appears when the first batch is written."""
    torch.set_num_threads(1)
    run.StoreWriter = partial(StoreWriter, flush_seconds=0.02)
    model, batches = make()
    touch = lambda *done: Path(started).touch()  # noqa: E731
    cg.extract(model, batches, ids=range(BATCHES * N), out=out, resume=resume, progress=touch)
