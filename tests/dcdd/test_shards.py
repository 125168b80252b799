"""The recipe of the 12B decoder under FSDP2, at tiny size on two CPU processes: bfloat16 weights of which attention
learns in float32, recomputed activations, a channels-last VAE, and a decoder at the end that loads and draws."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from detokenizers.checkpoint import load_tensors
from detokenizers.dcdd.model import WEIGHTS
from detokenizers.papers import load
from detokenizers.pretrained.vlm.loading import load_vlm
from detokenizers.training.report import read_log
from detokenizers.training.state import whole_state
from tests import stack
from tests.training.test_processes import REPOSITORY, launch

from .two_processes import BLOCKS

TRANSFORMER = "trained/dcdd.decoder.net.transformer."


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_stack) -> Path:
    """The folder of two processes' trainings."""
    out = tmp_path_factory.mktemp("trained")
    torch.manual_seed(0)
    net = stack.FLUX.build(4, lambda images: images).transformer
    net.set_submodule("x_embedder", net.x_embedder.base)
    net.to(torch.bfloat16).save_pretrained(out / "flux" / "transformer")
    done = launch("tests.dcdd.two_processes", out, tiny_stack)
    assert done.returncode == 0, done.stderr[-3000:]
    return out


def test_shards_learn_what_whole_weights_learn(trained):
    rows = [[row["loss"] for row in read_log(trained / name / "log.jsonl")] for name in ("whole", "shards")]
    assert len(rows[0]) == 3
    assert rows[1] == pytest.approx(rows[0], rel=1e-4)
    states = [whole_state(trained / name) for name in ("whole", "shards")]
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, atol=1e-5, rtol=1e-3, msg=name)


def test_attention_is_all_of_the_transformer_that_the_state_holds(trained):
    names = [name for name in whole_state(trained / "shards") if name.startswith(TRANSFORMER)]
    assert names
    assert all(".attn." in name or ".x_embedder.condition." in name for name in names)


def test_a_decoder_trained_in_shards_loads_and_draws(trained, embedded):
    dcdd = load(trained / "shards")
    tokens = load_vlm("mini").generate(["a dog on grass"], seeds=[0], observe=dcdd.observers)
    whole = load(trained / "whole")(tokens, steps=2)
    assert whole.shape == (1, 3, stack.PIXELS, stack.PIXELS)
    torch.testing.assert_close(dcdd(tokens, steps=2), whole, atol=0.05, rtol=0)
    assert load_tensors(trained / "shards" / WEIGHTS).keys() == load_tensors(trained / "whole" / WEIGHTS).keys()


def test_all_weights_learn_in_shards_that_compute_in_bf16(trained):
    rows = [[row["loss"] for row in read_log(trained / name / "log.jsonl")] for name in ("full whole", "full shards")]
    assert rows[1] == pytest.approx(rows[0], rel=0.02)
    seen = json.loads((trained / "full shards" / "seen.json").read_text())
    assert seen == {"block": "torch.bfloat16", "vae": "torch.float32"}
    state = whole_state(trained / "full shards")
    assert {tensor.dtype for tensor in state.values() if tensor.is_floating_point()} == {torch.float32}
    assert any(name.startswith(TRANSFORMER) and ".ff." in name for name in state)


def test_the_blank_picture_is_the_same_in_bf16_training_and_in_drawing(trained, embedded):
    dcdd = load(trained / "full shards")
    side = stack.PIXELS // dcdd.decoder.space.stride
    fill, _, _ = dcdd.decoder.net.constants(side, side, torch.device("cpu"))
    trained_with = load_tensors(trained / "full shards" / "fill.safetensors")["fill"]
    assert torch.equal(trained_with, fill)


def test_the_shipped_settings_are_fsdp2_over_these_blocks():
    from accelerate.commands.config.config_args import ClusterConfig

    path = REPOSITORY / "runs" / "fsdp2.yaml"
    settings = ClusterConfig.from_yaml_file(yaml_file=str(path)).fsdp_config
    assert settings["fsdp_version"] == 2
    assert settings["fsdp_transformer_layer_cls_to_wrap"] == BLOCKS
    assert not settings["fsdp_cpu_ram_efficient_loading"]
    assert yaml.safe_load(path.read_text())["mixed_precision"] == "no"
