"""One row of a DCDD table: which VLM, which images, whose belief, which decoder, how long.

images -frozen VQ, VAE (VLM)-> features, latents (beliefs), cached -batches-> DCDDObjective ; export = a DCDD folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ..checkpoint import fingerprint, load_tensors, resolve
from ..config import Config
from ..data.encoded import encoded, reader_fingerprint
from ..data.sources import ImageSource, Source, WorldImages, shuffled_rows
from ..flow.loss import LossWeight, One
from ..flow.time_laws import LogitNormal, TimeLaw
from ..pretrained.spaces import VAE, Pixels
from ..pretrained.vlm.loading import load_tokenizer, load_vlm
from ..pretrained.vq import JanusVQ
from ..protocols import VisualTokens
from ..training import Job, TrainConfig
from ..training.processes import computing_device
from .beliefs import Belief, Proxy, TeacherForced
from .model import CODEBOOK, DCDD, WEIGHTS, DCDDConfig
from .objectives import DCDDObjective

PREVIEW = 8
HELD = 64
"""Images that no step takes, whose loss is logged beside that of the others."""
READS = "encoder.fc.weight"
"""One column per number of a reading: first d for a code, then what `Committed` adds."""


class Mode(Config):
    """The middle of the VAE's posterior: one latent per image, however often it is seen."""

    # PAPER GAP (docs/dcdd.md#latents): which latents of an image are the clean ones is not said.

    kind: Literal["mode"] = "mode"

    def __call__(self, space: Pixels | VAE, images: Tensor) -> dict[str, Tensor]:
        return {"latents": space.encode(images)}


class Sample(Config):
    """A new draw from the posterior whenever an image is seen; its spread takes as much disk as the latents do."""

    kind: Literal["sample"] = "sample"

    def __call__(self, space: Pixels | VAE, images: Tensor) -> dict[str, Tensor]:
        mode = space.encode(images)
        return {"latents": mode, "spread": space.encode(images, torch.ones_like(mode)) - mode}


class DCDDRun(Config):
    """Everything that decides what a DCDD training run computes."""

    recipe: str
    vlm: str
    """The frozen VLM whose tokens will be decoded: `mini`, a folder, or a Hub id. Training needs only its tokenizer,
    unless the belief is teacher-forced."""
    images: ImageSource = WorldImages()
    belief: Belief = Proxy()
    decoder: DCDDConfig = DCDDConfig()
    latents: Annotated[Mode | Sample, Field(discriminator="kind")] = Mode()
    """Which latents of an image the decoder learns to draw."""
    weight: LossWeight = One()
    time_law: TimeLaw = LogitNormal()
    start: str | None = None
    """A trained DCDD folder to go on from; columns it does not have start at zero."""
    # PAPER GAP (docs/dcdd.md#learning-rates): the learning rate is lost, and whether there were two.
    new_lr_scale: float = Field(default=1.0, gt=0)
    """Condition encoder and new input columns learn with this many times `train.lr`."""
    cache: str = "out/cache"
    train: TrainConfig = TrainConfig()

    def job(self) -> Job:
        torch.manual_seed(self.train.seed)
        device = computing_device()
        source, tokenizer = self.images.open(), load_tokenizer(self.vlm, device=device)
        dcdd = self.decoder.build(tokenizer.codebook.cpu())
        if self.start:
            begin_from(dcdd, resolve(self.start))
        space = dcdd.decoder.space
        assert isinstance(space, Pixels | VAE)
        vlm = load_vlm(self.vlm, device=device) if isinstance(self.belief, TeacherForced) else None

        def encode(source: Source, images: Tensor, rows: Sequence[int]) -> dict[str, Tensor]:
            images = images.to(device)
            features = tokenizer.features(images)
            arrays = {"features": features.half()}
            arrays |= {name: array.half() for name, array in self.latents(space.to(device), images).items()}
            if isinstance(self.belief, TeacherForced) and vlm is not None:
                ids, captions = tokenizer.tokens(features), source.captions(rows)
                observe = replace(dcdd.observe, codebook=tokenizer.codebook)
                seen = vlm.teacher_forced(captions, ids, observe=observe, guidance=self.belief.guidance)
                arrays["observed"] = seen.half()
            return arrays

        inputs = self._inputs(source, tokenizer, space, vlm)
        shards = Path(self.cache) / "-".join(part[:10] for part in inputs.values())
        arrays = encoded(source, partial(encode, source), shards, workers=self.train.workers)

        def batches(part: int, size: int) -> dict[str, Tensor]:
            rows = shuffled_rows(part, size, len(source))
            return {name: array.float() for name, array in arrays[rows].items()}

        objective = DCDDObjective(dcdd, weight=self.weight, time_law=self.time_law, belief=self.belief)
        some = range(min(PREVIEW, len(source)))
        clean, shown = source.images(some), arrays[some]

        @torch.no_grad()
        def preview(_: nn.Module) -> Tensor:
            features = shown["features"].to(dcdd.codebook)
            observed = shown["observed"].float() if "observed" in shown else dcdd.proxy(features)
            tokens = VisualTokens(tokenizer.tokens(features), tokenizer.grid, observed)
            plain = tokenizer.decode(tokenizer.codebook[tokens.ids])
            return torch.cat([clean, plain.cpu(), dcdd(tokens, steps=16).cpu()])

        others = self.images.held_out(HELD)

        @torch.no_grad()
        def held_out() -> dict[str, Tensor]:
            assert others is not None
            rows = range(min(HELD, len(others)))
            return {name: array.float() for name, array in encode(others, others.images(rows), rows).items()}

        def pace(name: str) -> float:
            return self.new_lr_scale if dcdd.is_new(name.removeprefix("dcdd.")) else 1.0

        return Job(
            objective,
            batches,
            lambda _, folder: dcdd.save(folder, dtype=torch.float16),
            preview,
            pace,
            None if others is None else held_out,
            inputs,
        )

    def _inputs(self, source: Source, tokenizer: JanusVQ, space: Pixels | VAE, vlm: nn.Module | None) -> dict[str, str]:
        """Fingerprints of all that the cached arrays depend on; the cache is named by them."""
        parts = {
            "images": source.fingerprint(),
            "tokenizer": reader_fingerprint(tokenizer),
            "image space": reader_fingerprint(space),
        }
        if isinstance(space, VAE):
            parts["scale of the image space"] = fingerprint(torch.tensor([space.shift, space.scale]))
        if isinstance(self.latents, Sample):
            parts["latents"] = self.latents.fingerprint()
        if vlm is not None:
            parts["VLM"] = reader_fingerprint(vlm)
        if isinstance(self.belief, TeacherForced):
            parts["belief"] = self.belief.fingerprint()
            parts["reading"] = self.decoder.reading.fingerprint()
            parts["calibration"] = self.decoder.calibration.fingerprint()
        return parts


def begin_from(dcdd: DCDD, folder: Path) -> None:
    """Copy the weights of a trained decoder; where this one reads more or fewer features, the shared columns.

    A decoder of `Committed` that goes on as one of `Expectation` reads the expected code where the committed one was.

    Raises:
        ValueError: it reads another tokenizer's codes, or the nets differ in more than what they read.
    """
    codebook = load_tensors(folder / CODEBOOK)["codebook"]
    if codebook.shape != dcdd.codebook.shape or not torch.allclose(codebook, dcdd.codebook, atol=1e-3):
        raise ValueError(f"cannot start from {folder}: it was trained on the codes of another tokenizer")
    own, tensors = dcdd.state_dict(), load_tensors(folder / WEIGHTS)
    for name in sorted(tensors.keys() | dcdd.learned().keys()):
        tensor, target = tensors.get(name), own.get(name)
        if tensor is None or target is None:
            raise ValueError(f"cannot start from {folder}: {name} is in only one of the two decoders")
        if name == READS and tensor.shape[0] == target.shape[0]:
            columns = min(tensor.shape[1], target.shape[1])
            target.zero_()[:, :columns] = tensor[:, :columns]
        elif tensor.shape == target.shape:
            target.copy_(tensor)
        else:
            raise ValueError(f"cannot start from {folder}: {name} is {list(tensor.shape)}, not {list(target.shape)}")
