"""Exact resume: a run that is killed at any moment and started again is, to the bit, the run that was not."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from detokenizers.checkpoint import load_tensors, save_tensors
from detokenizers.training import train
from detokenizers.training.report import read_log
from detokenizers.training.schedules import Constant
from detokenizers.training.state import BEFORE, STATE, whole_state

from . import toy

REPOSITORY = Path(__file__).parents[2]


class Killed(BaseException):
    pass


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def losses(folder: Path) -> list[tuple[float, ...]]:
    return [(row["step"], row["loss"], row["root"], row["grad_norm"]) for row in read_log(folder / "log.jsonl")]


def assert_same_run(left: Path, right: Path) -> None:
    assert losses(left) == losses(right)
    assert len(losses(left)) == toy.CONFIG.steps
    for read in (whole_state, lambda folder: load_tensors(folder / toy.WEIGHTS)):
        ours, theirs = read(left), read(right)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_run_that_was_killed_with_sigkill_goes_on_to_the_same_bits(tmp_path):
    killed = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.training.toy", str(killed), "0.1"],
        cwd=REPOSITORY, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    deadline = time.monotonic() + 240
    while len(read_log(killed / "log.jsonl")) < 4 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 0 < whole_state(killed)["step"] < toy.CONFIG.steps

    train(toy.job(), toy.CONFIG, killed)
    train(toy.job(), toy.CONFIG, tmp_path / "whole")
    assert_same_run(killed, tmp_path / "whole")


@pytest.mark.parametrize("accumulate", [1, 2])
def test_steps_since_the_last_state_are_taken_again(tmp_path, accumulate):
    """Killed three steps after the state, in the middle of a line of the log and of the next state."""
    config, folder = toy.SAVING.vary({"accumulate": accumulate}), tmp_path / "killed"
    state = tmp_path / "state"

    def batches(part, size):
        if part == 4 * accumulate:
            shutil.copytree(folder / STATE, state)
        if part == 7 * accumulate:
            raise Killed
        return toy.images(part, size)

    with pytest.raises(Killed):
        train(toy.job(batches=batches), config, folder)
    shutil.rmtree(folder / STATE)
    shutil.copytree(state, folder / STATE)
    with (folder / "log.jsonl").open("a") as log:
        log.write('{"step": 7, "lo')
    (folder / STATE / ".00000008").mkdir()
    (folder / STATE / ".00000008" / "shard-00001-model-00001-of-00001.safetensors").write_bytes(b"half a state")

    train(toy.job(), config, folder)
    train(toy.job(), config, tmp_path / "whole")
    assert_same_run(folder, tmp_path / "whole")
    assert [path.name for path in (folder / STATE).iterdir()] == ["00000012"]


def test_paces_are_kept_over_a_resume(tmp_path):
    def job(**changes):
        return toy.job(pace=lambda name: 3.0 if name.startswith("blocks.1") else 1.0, **changes)

    def batches(part, size):
        if part == 6:
            raise Killed
        return toy.images(part, size)

    with pytest.raises(Killed):
        train(job(batches=batches), toy.SAVING, tmp_path / "killed")
    train(job(), toy.SAVING, tmp_path / "killed")
    train(job(), toy.SAVING, tmp_path / "whole")
    assert_same_run(tmp_path / "killed", tmp_path / "whole")
    train(toy.job(), toy.SAVING, tmp_path / "even")
    assert losses(tmp_path / "even") != losses(tmp_path / "whole")


def test_a_longer_run_goes_on_from_a_finished_one(tmp_path):
    constant = toy.CONFIG.vary({"schedule": Constant()})
    train(toy.job(), constant.vary({"steps": 5}), tmp_path / "grown")
    train(toy.job(), constant, tmp_path / "grown")
    train(toy.job(), constant, tmp_path / "whole")
    assert_same_run(tmp_path / "grown", tmp_path / "whole")


def test_a_state_of_before_ema_could_be_off_still_loads(tmp_path):
    """States once held an average even with a decay of 0: the weights themselves."""
    config = toy.CONFIG.vary({"ema_decay": 0.0})
    train(toy.job(), config.vary({"steps": 5}), tmp_path)
    state = whole_state(tmp_path)
    trained = {name.removeprefix("trained/"): value for name, value in state.items() if name.startswith("trained/")}
    learns = {name for name, weight in toy.Toy().named_parameters() if weight.requires_grad}
    shutil.rmtree(tmp_path / STATE)
    save_tensors(tmp_path / BEFORE, state | {f"ema/{name}": trained[name] for name in learns})
    train(toy.job(), config, tmp_path)
    assert whole_state(tmp_path)["step"] == 12
