"""Every benchmark runs, tiny, on the CPU, and prints one honest row; the FLOP formula is PyTorch's own count."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
ROW = {"benchmark", "device", "dtype", "batch", "resolution", "compile", "warm_up", "repeats", "versions"}
CPU = torch.device("cpu")


@pytest.fixture
def row(monkeypatch, capsys):
    """Run a benchmark in this process with these arguments; returns its rows."""
    monkeypatch.syspath_prepend(BENCHMARKS)

    def run(name: str, *arguments: object) -> list[dict]:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        module = importlib.import_module("row")
        for limit, rate in (("copy_rate", 1e9), ("matmul_rate", 1e9)):  # measured in a test of their own
            monkeypatch.setattr(module, limit, lambda *_, rate=rate: rate)
        for part in ("token_loop", "shapes", "flop", name):
            sys.modules.pop(part, None)
        importlib.import_module(name).main()
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    yield run
    for part in (
        "row",
        "shapes",
        "flop",
        "token_loop",
        "lcdm",
        "decoder",
        "learning_step",
        "latency",
        "memory",
        "encoding",
    ):
        sys.modules.pop(part, None)


@pytest.mark.parametrize(
    ("name", "arguments", "beside"),
    [
        ("token_loop", ["--shape", "tiny", "--images", 2], ("eager_step_ms", "limit_step_ms")),
        ("token_loop", ["--shape", "tiny", "--batch", 2, "--dtype", "bfloat16"], ("speedup", "share_of_limit")),
        ("lcdm", ["--tokens", 16, "--codes", 256, "--repeats", 5], ("offline_ms", "limit_offline_ms")),
        ("decoder", ["--steps", 2, "--repeats", 3, "--text", 0], ("image_s", "limit_s")),
        ("learning_step", ["--repeats", 3, "--dtype", "bfloat16"], ("step_s", "model_flop_utilisation")),
        ("encoding", ["--pictures", 12, "--batch", 4, "--device-ms", 1], ("images_per_s", "limit_images_per_s")),
        ("latency", ["--shape", "tiny", "--steps", 2, "--repeats", 3], ("end_to_end_dcdd_s", "limit_tokens_s")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_benchmark_prints_one_row_with_its_setting_and_the_limit_beside_the_number(row, name, arguments, beside):
    (found,) = row(name, *arguments, "--device", "cpu")
    assert set(found) >= ROW | set(beside)
    assert found["benchmark"] == name
    assert found["repeats"] >= 3
    assert all(min(np.atleast_1d(found[key])) >= 0 for key in beside)


def test_the_decoder_is_timed_with_and_without_text(row):
    without, with_text = row("decoder", "--steps", 1, "--repeats", 1, "--text", 0, 5, "--device", "cpu")
    assert (without["text_tokens"], with_text["text_tokens"]) == (0, 5)
    assert with_text["transformer_tflop"] > without["transformer_tflop"]


def test_optimisers_are_given_equal_time_on_equal_batches_and_held_out_scenes(row, tmp_path):
    nets = "mini.world_net", f"mini.vlm --scenes 4 --cache {tmp_path}"
    found = row("optimizers", *nets, "--minutes", 0.003, "--batch", 2)
    judge, none, adamw, muon = found
    assert [one["optimizer"] for one in found] == ["adamw", "muon", "adamw", "muon"]
    assert judge["steps"] >= 1
    assert none["held_out"] is None
    assert "has no matrix in repeated blocks" in none["why"]
    assert adamw["cpu_s"] >= 0.18
    assert muon["cpu_s"] >= 0.18
    assert 0 < muon["held_out"] != adamw["held_out"] > 0


def test_faster_ways_to_draw_with_madit_draw_the_same(row):
    (patches,) = row("madit_drawing", "--rounds", 3, "--batch", 2, "--repeats", 1, "--device", "cpu")
    assert set(patches) >= ROW
    assert patches["largest_difference"] < 1e-3
    assert patches["ratio"] > 1
    (words,) = row("visual_words", "--layers", 1, "--grid", 3, "--batch", 2, "--device", "cpu")
    assert set(words) >= ROW
    assert words["tokens_equal"]


def test_limits_of_the_machine_are_measured(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    module = importlib.import_module("row")
    assert 1e8 < module.copy_rate(CPU) < 1e13
    assert 1e8 < module.matmul_rate(CPU, torch.float32) < 1e14
    sys.modules.pop("row")


@pytest.mark.parametrize("learns", [False, True], ids=["forward", "learning"])
@pytest.mark.parametrize("text", [0, 6])
def test_the_flop_formula_is_what_pytorch_counts(monkeypatch, text, learns):
    monkeypatch.syspath_prepend(BENCHMARKS)
    shapes, formula = importlib.import_module("shapes"), importlib.import_module("flop")
    dcdd = shapes.decoder_at("tiny", CPU, torch.float32, text=text, codebook=shapes.unit_codes(64, CPU), learns=learns)
    net, channels = dcdd.decoder.net, dcdd.encoder.channels_per_token
    noisy, t = torch.randn(1, 4, 8, 8), torch.tensor([0.5])
    condition = torch.randn(1, channels // 4, 8, 8, requires_grad=learns)
    net.constants(8, 8, CPU)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        velocity = net(noisy, t, condition)
        if learns:
            velocity.sum().backward()
    counted = formula.flop(shapes.FLUX["tiny"], 16, text, channels)
    assert counter.get_total_flops() == (counted.learning if learns else counted.forward)


def test_the_memory_that_docs_speak_of_is_what_is_counted(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    memory = importlib.import_module("memory")
    scopes = {name: memory.counted(scope) for name, scope in memory.SCOPES.items()}
    attention, lora = (memory.whole(*scopes[name][:2]) for name in ("attention", "lora"))
    full = memory.sharded(*scopes["full"])
    readme, training, performance = (
        (BENCHMARKS.parent / name).read_text() for name in ("README.md", "docs/training.md", "docs/performance.md")
    )
    before, step = attention["before_activations_gb"], attention["step_with_separate_buckets_and_foreach_gb"]
    assert all(f"{before:.0f} GB" in text for text in (readme, training, performance))
    assert f"takes {step:.0f} GB" in training
    assert f"{attention['between_steps_gb']:.0f} GB" in performance
    assert all(f"{lora['before_activations_gb']:.0f} GB" in text for text in (readme, training))
    assert all(f"{full['over_all_gb']:.0f} GB" in text for text in (readme, training))
    assert f"on each {full['on_each_gb']:.0f} GB" in readme


def test_the_full_size_costs_what_the_released_model_does(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    shapes, formula = importlib.import_module("shapes"), importlib.import_module("flop")
    images = {text: 30 * formula.flop(shapes.FLUX["12b"], 576, text, 272).forward / 1e12 for text in (0, 512)}
    assert images[0] == pytest.approx(230, rel=0.05)
    assert images[512] == pytest.approx(450, rel=0.05)
