"""A VLM, a decoder and a text-to-image model that share no class with the house: all that the protocols promise, and
nothing more. Codes are colours, so tokens can be drawn by hand."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from detokenizers.protocols import Grid, VisualTokens


class Colours:
    """A `VisualTokenizer`: eight colours on a grid of four by four."""

    grid, image_size = Grid(4, 4), 16
    codebook = F.normalize(torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3), dim=-1)

    def features(self, images):
        return F.normalize(F.adaptive_avg_pool2d(images, 4).flatten(2).mT, dim=-1)

    def tokens(self, features):
        return (features @ self.codebook.T).argmax(-1)

    def decode(self, codes):
        return F.interpolate(codes.mT.unflatten(2, (4, 4)), scale_factor=4)

    def fingerprint(self):
        return "colours"


class Painter:
    """A `TokenVLM`: logits follow from the length of the prompt and from the seed."""

    guidance, tokenizer = 1.0, Colours()

    def check(self, prompts):
        if "" in prompts:
            raise ValueError("an empty prompt cannot be painted")

    def width(self, prompts):
        return 0

    def generate(self, prompts, *, seeds, guidance=None, temperature=1.0, observe=None, batch_size=16, width=0,
                 progress=None):  # fmt: skip
        sources = [torch.Generator().manual_seed(seed) for seed in seeds]
        logits = torch.stack([torch.randn(16, 8, generator=g) + len(p) for p, g in zip(prompts, sources)])
        ids = logits.argmax(-1)
        observed = {
            name: torch.stack([see(step, drawn) for step, drawn in zip(logits.unbind(1), ids.unbind(1))], 1)
            for name, see in (observe or {}).items()
        }
        return VisualTokens(ids, self.tokenizer.grid, observed)

    def fingerprint(self):
        return "painter"


class Mixer:
    """A `Decoder` that draws each token's expected colour."""

    source, steps, needs = "tokens", None, frozenset({"expected-colour"})
    observers = {"expected-colour": lambda logits, sampled: logits.softmax(-1) @ Colours.codebook}  # noqa: RUF012

    def read(self, images, tokenizer):
        features = tokenizer.features(images)
        return VisualTokens(tokenizer.tokens(features), tokenizer.grid, {"expected-colour": features})

    def __call__(self, tokens, *, steps=None, seeds=None):
        return Colours().decode(tokens.observed["expected-colour"])

    def require(self, tokenizer):
        if tokenizer.fingerprint() != "colours":
            raise ValueError("it mixes no other codes than colours")

    def fingerprint(self):
        return "mixer"


class Poster:
    """A `TextToImage` model: one colour a picture, by prompt, seed and guidance."""

    source, steps, reader = "prompts", 3, None

    def __call__(self, prompts, *, seeds, guidance=None, steps=None):
        level = [len(p) % 7 / 7 + seed % 5 / 50 + (guidance or 0) / 100 for p, seed in zip(prompts, seeds)]
        return torch.tensor(level)[:, None, None, None].expand(-1, 3, 16, 16)

    def require(self, vlm):
        if vlm != "posters":
            raise ValueError(f"it was made for posters, not for {vlm}")

    def fingerprint(self):
        return "poster"
