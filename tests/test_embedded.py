"""What the package ships draws what it is asked for: floors under its trained parts, well below what docs/results.md has."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

import detokenizers as dt
from detokenizers import drawing
from detokenizers.evaluation import evaluate

DECODERS = ("vq", "mini/dcdd", "mini/one_step", "mini/madit-janus", "mini/vugen")
N = 24


def test_every_decoder_reconstructs_nearer_than_the_codes_alone(tmp_path):
    drawing.reconstruct(world=N, decoder=DECODERS, decode_batch=8, out=tmp_path)
    found = evaluate(tmp_path, world=N, metrics=("psnr", "pd-world"), resamples=5, out=tmp_path / "evaluated")
    psnr, apart = (
        {name: metrics[key]["value"] for name, metrics in found.decoders.items()} for key in ("psnr", "pd_world")
    )
    assert psnr["dcdd"] > psnr["vq"] + 2
    assert psnr["one_step"] > psnr["vq"] + 4
    assert psnr["madit-janus"] > psnr["vq"] + 0.7
    assert psnr["vugen"] > psnr["vq"] + 2.5
    assert max(apart[name] for name in psnr if name != "vq") < 0.85 * apart["vq"]


def test_every_model_draws_most_prompts_right(tmp_path):
    drawing.generate(world=N, split="validation", decoder=DECODERS, decode_batch=8, out=tmp_path / "mini")
    drawing.generate(
        world=N,
        split="validation",
        vlm="mini/madit-llm",
        decoder=("mini/madit",),
        decode_batch=8,
        out=tmp_path / "madit",
    )
    found = evaluate(
        tmp_path / "mini", tmp_path / "madit/madit", world=N, split="validation", metrics=("agreement",), resamples=5,
        out=tmp_path / "evaluated",
    )  # fmt: skip
    assert list(found.decoders) == ["vq", "dcdd", "one_step", "madit-janus", "vugen", "madit"]
    for name, entry in found.numbers["decoders"].items():
        assert entry["agreement"]["score"]["value"] > 0.5, name


@pytest.mark.parametrize(
    ("name", "key"),
    [("dcdd", "temperature"), ("one_step", "temperature"), ("vugen/target", "decoder.temperature")],
)
def test_a_decoder_can_be_made_to_draw_at_another_temperature(name, key, tmp_path, monkeypatch):
    script = Path(__file__).parent.parent / "scripts/vary_decoder.py"
    monkeypatch.setattr("sys.argv", ["vary_decoder.py", f"mini/{name}", str(tmp_path / "varied"), f"{key}=0.25"])
    runpy.run_path(str(script), run_name="__main__")
    before, after = (
        drawing.reconstruct(world=1, decoder={"it": dt.load(folder)}, out=tmp_path / f"{number}").paths("it")
        for number, folder in enumerate((f"mini/{name}", tmp_path / "varied"))
    )
    assert [path.read_bytes() for path in before] != [path.read_bytes() for path in after]
