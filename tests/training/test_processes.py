"""`torchrun --nproc-per-node 2` on the CPU: two processes give the weights of one, whole or in shards (FSDP2)."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from detokenizers.checkpoint import load_tensors
from detokenizers.training import train
from detokenizers.training.report import read_log
from detokenizers.training.schedules import Constant
from detokenizers.training.state import BEFORE, STATE, whole_state

from . import tokenizer, toy
from .states import as_before

REPOSITORY = Path(__file__).parents[2]


def launch(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a module of the tests as two processes."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [*torchrun, "-m", module, *map(str, arguments)],
        cwd=REPOSITORY, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=900,
    )  # fmt: skip


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> Path:
    """The folder of what two processes trained."""
    out = tmp_path_factory.mktemp("together")
    for name in ("from one", "from before"):
        train(toy.job(), toy.CONFIG.vary({"steps": 6, "schedule": Constant(), "warmup": 0}), out / name)
    as_before(out / "from before")
    done = launch("tests.training.two_processes", out)
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """The folder of what one process trains of the same jobs."""
    out, threads = tmp_path_factory.mktemp("alone"), torch.get_num_threads()
    torch.set_num_threads(1)
    train(toy.job(), toy.CONFIG, out / "ddp")
    train(tokenizer.job(), tokenizer.CONFIG, out / "tokenizer")
    train(toy.job(), toy.CONFIG.vary({"steps": 9, "schedule": Constant(), "warmup": 0}), out / "half")
    torch.set_num_threads(threads)
    return out


def assert_near(left: Path, right: Path) -> None:
    ours, theirs = (whole_state(path.parent) if path.name == STATE else load_tensors(path) for path in (left, right))
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(
            ours[name], theirs[name], atol=1e-6, rtol=1e-5, msg=lambda text, n=name: f"{n}: {text}"
        )


def test_two_processes_give_the_weights_of_one(together, alone):
    assert_near(together / "ddp" / toy.WEIGHTS, alone / "ddp" / toy.WEIGHTS)


def test_the_logged_loss_is_that_of_the_whole_batch(together, alone):
    ours, theirs = read_log(together / "ddp" / "log.jsonl"), read_log(alone / "ddp" / "log.jsonl")
    assert [row["step"] for row in ours] == [row["step"] for row in theirs] == list(range(12))
    for name in ("loss", "grad_norm"):
        assert [row[name] for row in ours] == pytest.approx([row[name] for row in theirs], rel=1e-4)


def test_all_processes_start_from_the_weights_of_the_first(together):
    saved = load_tensors(together / "first weights" / toy.WEIGHTS)
    assert torch.equal(saved["stem.weight"], toy.job(seed=0).objective.state_dict()["stem.weight"])


def test_the_codebook_follows_the_features_of_all_processes(together, alone):
    assert_near(together / "tokenizer" / tokenizer.WEIGHTS, alone / "tokenizer" / tokenizer.WEIGHTS)


def test_a_batch_that_does_not_divide_is_refused_by_all(together):
    for rank in range(2):
        assert "batch_size 3 does not divide among 2 processes" in (together / f"odd-{rank}.txt").read_text()


def test_shards_give_the_weights_of_one_process(together, alone):
    assert_near(together / "fsdp2" / toy.WEIGHTS, alone / "ddp" / toy.WEIGHTS)


def test_the_weights_really_were_in_shards(together):
    assert (together / "kind.txt").read_text() == "DTensor"


def test_a_state_saved_from_shards_is_that_of_one_process(together, alone):
    assert_near(together / "fsdp2" / STATE, alone / "ddp" / STATE)


def test_a_state_saved_from_shards_goes_on_in_shards(together, alone):
    assert_near(together / "half" / toy.WEIGHTS, alone / "half" / toy.WEIGHTS)


def test_a_state_saved_from_shards_goes_on_in_one_process(together, alone):
    folder = together / "half of one"
    train(toy.job(), toy.CONFIG.vary({"steps": 9, "schedule": Constant(), "warmup": 0}), folder)
    assert_near(folder / toy.WEIGHTS, alone / "half" / toy.WEIGHTS)


@pytest.mark.parametrize("folder", ["from one", "from before"])
def test_a_state_saved_by_one_process_goes_on_in_shards(together, alone, folder):
    assert_near(together / folder / toy.WEIGHTS, alone / "half" / toy.WEIGHTS)
    assert not (together / folder / BEFORE).exists()


def test_each_process_saves_its_shards_and_a_share_of_the_rest(together):
    (folder,) = (together / "fsdp2" / STATE).iterdir()
    parts = [load_tensors(path) for path in sorted(folder.iterdir())]
    assert [part["trained/blocks.0.conv.weight"].shape[0] for part in parts] == [3, 3]
    assert sum("trained/calls" in part for part in parts) == 1


def test_shards_compute_in_bf16_over_weights_and_moments_in_fp32(together, alone):
    seen = json.loads((together / "bf16" / "seen.json").read_text())
    assert seen == {
        "weight": "torch.bfloat16", "input": "torch.bfloat16", "judge": "torch.float32", "shard": "torch.float32"
    }  # fmt: skip
    state = whole_state(together / "bf16")
    assert {tensor.dtype for tensor in state.values() if tensor.is_floating_point()} == {torch.float32}
    assert any(name.startswith("optimizer/") for name in state)


def test_bf16_in_shards_learns_what_fp32_learns_nearly(together, alone):
    ours, theirs = (read_log(folder / "log.jsonl") for folder in (together / "bf16", alone / "ddp"))
    assert [row["loss"] for row in ours] == pytest.approx([row["loss"] for row in theirs], rel=0.02)
    assert [row["loss"] for row in ours] != pytest.approx([row["loss"] for row in theirs], rel=1e-5)


def test_fp16_is_refused_in_shards(together):
    for rank in range(2):
        assert "train.precision is bf16 or no, not fp16" in (together / f"fp16-{rank}.txt").read_text()


def test_a_process_that_dies_ends_the_other_in_one_line_and_no_state_is_lost(tmp_path):
    shared = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    first, second = (
        subprocess.Popen(
            [sys.executable, "-m", "tests.training.dead_rank", str(tmp_path / "run")],
            cwd=REPOSITORY, env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"},
            stdout=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    )  # fmt: skip
    assert second.wait(300) == -signal.SIGKILL
    line, _ = first.communicate(timeout=300)
    assert line == "another of the 2 processes has died; the same command goes on where it stopped\n"
    assert whole_state(tmp_path / "run")["step"] == 4
    train(toy.job(), toy.SAVING, tmp_path / "run")
    assert whole_state(tmp_path / "run")["step"] == 12


def free_port() -> int:
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        return any_port.getsockname()[1]
