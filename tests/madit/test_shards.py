"""The recipes on two CPU processes at tiny size: both stages of a MaDiT, and the 7B language model's under FSDP2."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from detokenizers.checkpoint import load_tensors
from detokenizers.madit.loading import load_language
from detokenizers.training import train
from detokenizers.training.report import read_log
from tests import paper_stack
from tests.test_runs import RUNS
from tests.training.test_processes import launch

from . import tiny, two_processes
from .two_processes import BLOCKS


@pytest.fixture(scope="module")
def trained(tmp_path_factory, vae) -> Path:
    """The folder of two processes' trainings."""
    out = tmp_path_factory.mktemp("trained")
    shutil.copytree(vae, out / "vae")
    tiny.model(tiny.tokenizer(vae)).save(out / "madit")
    torch.manual_seed(0)
    paper_stack.save_qwen(out / "qwen")
    done = launch("tests.madit.two_processes", out)
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.mark.parametrize("stage", ["one", "two"])
def test_two_processes_learn_codes_and_decoder_as_one_does(trained, stage, tmp_path):
    run = two_processes.one(trained) if stage == "one" else two_processes.two(trained, trained / "one")
    train(run.job(), run.train, tmp_path)
    for found, wanted in zip(read_log(trained / stage / "log.jsonl"), read_log(tmp_path / "log.jsonl"), strict=True):
        for name in wanted.keys() & {"loss", "mse", "flow", "quantiser", "usage", "perplexity"}:
            assert found[name] == pytest.approx(wanted[name], rel=1e-3), name
    found, wanted = (load_tensors(folder / "tokenizer/tokenizer.safetensors") for folder in (trained / stage, tmp_path))
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, atol=2e-3, rtol=1e-2, msg=name)


def test_a_language_model_learns_in_shards_what_it_learns_whole(trained):
    rows = {
        name: [row["loss"] for row in read_log(trained / name / "log.jsonl")] for name in ("whole", "shards", "half")
    }
    assert len(rows["whole"]) == 3
    assert rows["whole"][2] < rows["whole"][0]
    assert rows["shards"] == pytest.approx(rows["whole"], rel=1e-4)
    assert rows["half"] == pytest.approx(rows["whole"], rel=0.02)
    whole, shards = (load_tensors(trained / name / "model.safetensors") for name in ("whole", "shards"))
    assert whole.keys() == shards.keys()
    for name, tensor in whole.items():
        torch.testing.assert_close(shards[name], tensor, atol=1e-3, rtol=1e-2, msg=name)


def test_what_was_trained_in_shards_draws(trained):
    assert load_language(trained / "half").generate(["a red apple"], seeds=[0]).ids.shape == (1, 16)


def test_the_script_shards_the_layers_of_that_model():
    assert f"--fsdp_transformer_layer_cls_to_wrap {BLOCKS}" in (RUNS / "madit_qwen_7b.sh").read_text()
