"""Train a small population and die in the middle: python zoo_worker.py FOLDER STEP."""

import os
import signal
import sys

from congruence import zoo
from congruence.zoo import training

CONFIG = zoo.Config("mlp:width=8,depth=1", "digits", "training:epochs=2,batch_size=256,learning_rate=0.02")


def main() -> None:
    folder, step = sys.argv[1], int(sys.argv[2])
    training.RESUME_SECONDS = 0.0

    def die(report: zoo.Report) -> None:
        if report.step == step:
            os.kill(os.getpid(), signal.SIGKILL)

    zoo.train(CONFIG, 2, folder=folder, progress=die)


if __name__ == "__main__":
    main()
