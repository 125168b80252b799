"""Whatever satisfies a protocol works everywhere: a VLM, a tokenizer and a decoder of somebody else, twenty lines each,
draw, reconstruct and are measured."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from detokenizers.cli import main, verbs
from detokenizers.decoder import SpaceDecoder
from detokenizers.drawing import decoders, generate, reconstruct
from detokenizers.pretrained.spaces import Pixels
from detokenizers.protocols import Grid, VisualTokens

CODES = F.normalize(torch.tensor([[r, g, b] for r in (-1.0, 1) for g in (-1.0, 1) for b in (-1.0, 1)]), dim=-1)


class Corners:
    """A tokenizer of eight colours on a 2x2 grid."""

    grid, image_size, codebook = Grid(2, 2), 64, CODES

    def features(self, images):
        return F.normalize(F.adaptive_avg_pool2d(images, 2).flatten(2).mT + 1e-4, dim=-1)

    def tokens(self, features):
        return (features @ CODES.T).argmax(-1)

    def decode(self, codes):
        return F.interpolate(codes.mT.unflatten(2, (2, 2)), scale_factor=32).clamp(-1, 1)

    def fingerprint(self):
        return "corners"


class Dice:
    """A VLM that likes codes by the letters of the prompt."""

    guidance, tokenizer = 1.0, Corners()

    def check(self, prompts):
        if "" in prompts:
            raise ValueError("it reads no empty prompt")

    def width(self, prompts):
        return 0

    def generate(self, prompts, *, seeds, guidance=None, temperature=1.0, observe=None, batch_size=16, width=0,
                 progress=None):  # fmt: skip
        draws = [torch.Generator().manual_seed(seed) for seed in seeds]
        logits = torch.stack([torch.randn(4, 8, generator=draw) + len(p) % 3 for draw, p in zip(draws, prompts)])
        ids = (logits / temperature).argmax(-1)
        observed = {name: torch.stack([one(logits[:, i], ids[:, i]) for i in range(4)], 1)
                    for name, one in (observe or {}).items()}  # fmt: skip
        return VisualTokens(ids, self.tokenizer.grid, observed)

    def fingerprint(self):
        return "dice"


class Blend:
    """A decoder that draws the average colour, and a little noise."""

    steps, needs = 2, frozenset({"colour"})
    observers = {"colour": lambda logits, ids: logits.softmax(-1) @ CODES}  # noqa: RUF012

    def read(self, images, tokenizer):
        features = tokenizer.features(images)
        return VisualTokens(tokenizer.tokens(features), tokenizer.grid, {"colour": features})

    def __call__(self, tokens, *, steps=None, seeds=None):
        noise = [torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        plain = F.interpolate(tokens.observed["colour"].mT.unflatten(2, (2, 2)), scale_factor=32)
        return (plain + torch.stack(noise) / (50 * (steps or self.steps))).clamp(-1, 1)

    def require(self, tokenizer):
        if len(tokenizer.codebook) != 8:
            raise ValueError("it blends eight colours")

    def fingerprint(self):
        return "blend"


@pytest.fixture
def foreign(monkeypatch):
    """Theirs in the place of what names stand for."""
    ours = {"blend": Blend(), "ceiling": SpaceDecoder(Pixels())}
    monkeypatch.setattr(generate, "load_vlm", lambda name, device: Dice())
    monkeypatch.setattr(reconstruct, "load_tokenizer", lambda name, device: Corners())
    monkeypatch.setattr(decoders, "papers", SimpleNamespace(load=lambda name, device: ours[name]))


def test_theirs_generate_from_the_same_tokens_as_ours(foreign, tmp_path):
    ask = verbs.Generate(text=("a red square", "two blue dots"), decoder=("vq", "blend"), device="cpu", out=tmp_path)
    generate.run(ask)
    assert len(list((tmp_path / "blend").glob("*.png"))) == len(list((tmp_path / "vq").glob("*.png"))) == 2
    pictures = {path: path.read_bytes() for path in tmp_path.rglob("*/*.png")}
    generate.run(ask)
    assert {path: path.read_bytes() for path in pictures} == pictures, "what is there is theirs, and is not drawn again"


def test_a_decoder_of_pictures_alone_is_refused_where_a_vlm_draws(foreign, tmp_path):
    ask = verbs.Generate(text=("a red square",), decoder=("ceiling",), device="cpu", out=tmp_path)
    with pytest.raises(ValueError, match="ceiling draws from the latents of pictures"):
        generate.run(ask)


def test_theirs_reconstruct_and_are_measured(foreign, tmp_path):
    decoder = ("vq", "vq-unrounded", "ceiling", "blend")
    reconstruct.run(verbs.Reconstruct(world=4, decoder=decoder, device="cpu", out=tmp_path))
    found = json.loads((tmp_path / "results.json").read_text())["decoders"]
    assert list(found) == list(decoder)
    assert found["ceiling"]["metrics"]["ssim"]["value"] > 0.999
    assert found["blend"]["metrics"]["psnr"]["value"] > 5

    asked = ["--metrics", "psnr", "--resamples", "0", "--allow", "any-n", "copies", "--device", "cpu"]
    asked += ["--reference", str(tmp_path / "original"), "--out", str(tmp_path / "measured")]
    assert main(["evaluate", str(tmp_path), *asked]) == 0
    rows = json.loads((tmp_path / "measured" / "results.json").read_text())["decoders"]
    assert rows["blend"]["metrics"]["psnr"]["value"] == pytest.approx(found["blend"]["metrics"]["psnr"]["value"])
