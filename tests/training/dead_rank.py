"""`python -m tests.training.dead_rank FOLDER`, as one of two processes without a launcher: the second kills itself in
the middle of the training; the first prints how it ended."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch

from detokenizers.device import rank
from detokenizers.failure import one_line
from detokenizers.training import Job, Run
from detokenizers.training.run_folder import train_into

from . import toy


class ToyRun(Run):
    def job(self) -> Job:
        def batches(part: int, size: int) -> dict[str, torch.Tensor]:
            if rank() == 1 and part == 9:
                os.kill(os.getpid(), signal.SIGKILL)
            return toy.images(part, size)

        return toy.job(batches=batches)


if __name__ == "__main__":
    torch.set_num_threads(1)
    try:
        train_into(ToyRun(recipe="toy", train=toy.SAVING), Path(sys.argv[1]))
    except Exception as error:
        print(one_line(error))
