"""The recipe of the 7B language model under FSDP2, at tiny size on two CPU processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from detokenizers.checkpoint import load_tensors
from detokenizers.madit.loading import load_language
from detokenizers.training.report import read_log
from tests import paper_stack
from tests.test_runs import RUNS
from tests.training.test_processes import launch

from . import tiny
from .two_processes import BLOCKS


@pytest.fixture(scope="module")
def trained(tmp_path_factory, vae) -> Path:
    """The folder of two processes' trainings."""
    out = tmp_path_factory.mktemp("trained")
    tiny.model(tiny.tokenizer(vae)).save(out / "madit")
    torch.manual_seed(0)
    paper_stack.save_qwen(out / "qwen")
    done = launch("tests.madit.two_processes", out)
    assert done.returncode == 0, done.stderr[-3000:]
    return out


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
