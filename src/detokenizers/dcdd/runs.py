"""One row of a DCDD table: which VLM, which images, whose distributions, which decoder, how long.

images -frozen VQ, VAE (VLM)-> features, latents (LCDM), cached -batches-> DCDDObjective ; export = a DCDD folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ..checkpoint import fingerprint, load_tensors, resolve
from ..config import Config
from ..data.encoded import reader_fingerprint
from ..data.sources import ImageSource, Source, WorldImages, shuffled_rows
from ..flow.loss import LossWeight, One
from ..flow.time_laws import LogitNormal, TimeLaw
from ..pretrained.vlm.loading import load_tokenizer, load_vlm
from ..protocols import ImageSpace, VisualTokens
from ..training import CachedRun, Job
from .calibrate import calibrated
from .model import CODEBOOK, DCDD, WEIGHTS, DCDDConfig
from .objectives import DCDDObjective
from .proxies import Distribution, Proxy, TeacherForced

PREVIEW = 8
HELD = 64
"""Images that no step takes, whose loss is logged beside that of the others."""
READS = "encoder.fc.weight"
"""One column per number of an LCDM: first d for a code, then what `Committed` adds."""


class Mode(Config):
    """The middle of the VAE's posterior: one latent per image, however often it is seen."""

    # PAPER GAP (docs/dcdd.md#latents): which latents of an image are the clean ones is not stated.

    kind: Literal["mode"] = "mode"

    def __call__(self, space: ImageSpace, images: Tensor) -> dict[str, Tensor]:
        return {"latents": space.encode(images)}


class Sample(Config):
    """A new draw from the posterior whenever an image is seen; its spread takes as much disk as the latents do."""

    kind: Literal["sample"] = "sample"

    def __call__(self, space: ImageSpace, images: Tensor) -> dict[str, Tensor]:
        mean, std = space.posterior(images)
        return {"latents": mean, "spread": std}


class DCDDRun(CachedRun):
    """Everything that decides what a DCDD training run computes."""

    vlm: str
    """The frozen VLM whose tokens will be decoded: `mini`, a folder, or a Hub id. Training needs only its tokenizer,
    unless the distributions are teacher-forced."""
    images: ImageSource = WorldImages()
    distribution: Distribution = Proxy()
    """Whose distributions the decoder is trained on."""
    calibration: str | None = None
    """What `detok calibrate` wrote for this VLM: all its numbers take the place of `decoder.calibration`, of which only
    `vlm_side` stands. A report for another codebook is refused; `None` takes `decoder.calibration` as it is."""
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

    @model_validator(mode="before")
    @classmethod
    def _read_older_settings(cls, settings: Any) -> Any:
        """`distribution` was called `belief` before."""
        if not isinstance(settings, dict):
            return settings
        return {"distribution" if name == "belief" else name: value for name, value in settings.items()}

    def calibrated(self, codebook: Tensor) -> DCDDConfig:
        """The decoder's settings with the calibration that was found for this codebook, if a report is named."""
        return calibrated(self.decoder, self.calibration, codebook)

    def job(self) -> Job:
        torch.manual_seed(self.train.seed)
        device = self.device
        source, tokenizer = self.images.open(), load_tokenizer(self.vlm, device=device)
        decoder = self.calibrated(tokenizer.codebook)
        dcdd = decoder.build(tokenizer.codebook.cpu())
        if self.start:
            begin_from(dcdd, resolve(self.start))
        net: Any = dcdd.decoder.net
        space: Any = dcdd.decoder.space
        space.to(device)
        vlm = load_vlm(self.vlm, device=device) if isinstance(self.distribution, TeacherForced) else None

        def encode(source: Source, images: Tensor, rows: Sequence[int]) -> dict[str, Tensor]:
            images = images.to(device)
            features = tokenizer.features(images)
            arrays = {"features": features.half()}
            arrays |= {name: array.half() for name, array in self.latents(space, images).items()}
            if isinstance(self.distribution, TeacherForced) and vlm is not None:
                ids, captions = tokenizer.tokens(features), source.captions(rows)
                observe = {"observed": replace(dcdd.observer, codebook=tokenizer.codebook)}
                tokens = vlm.teacher_forced(captions, ids, observe=observe, guidance=self.distribution.guidance)
                arrays["observed"] = tokens.observed["observed"].half()
            return arrays

        inputs = self._inputs(source, tokenizer, space, decoder, vlm)
        arrays = self.encoded("dcdd", source, partial(encode, source), inputs)

        def batches(part: int, size: int) -> dict[str, Tensor]:
            rows = shuffled_rows(part, size, len(source))
            return {name: array.float() for name, array in arrays[rows].items()}

        objective = DCDDObjective(dcdd, weight=self.weight, time_law=self.time_law, distribution=self.distribution)
        some = range(min(PREVIEW, len(source)))
        clean, shown = source.images(some), arrays[some]

        @torch.no_grad()
        def preview(_: nn.Module) -> Tensor:
            features = shown["features"].to(dcdd.codebook)
            observed = shown["observed"].float() if "observed" in shown else dcdd.proxy(features)
            tokens = VisualTokens(tokenizer.tokens(features), tokenizer.grid, {dcdd.observation: observed})
            plain = tokenizer.decode(tokenizer.codebook[tokens.ids])
            return torch.cat([clean, plain.cpu(), dcdd(tokens, steps=16).cpu()])

        others = self.images.held_out(HELD)

        @torch.no_grad()
        def held_out() -> dict[str, Tensor]:
            assert others is not None
            rows = range(min(HELD, len(others)))
            return {name: array.float() for name, array in encode(others, others.images(rows), rows).items()}

        new = {f"dcdd.decoder.net.{name}" for name in net.new_parameters}

        def pace(name: str) -> float:
            return self.new_lr_scale if name in new or name.startswith("dcdd.encoder.") else 1.0

        return Job(
            objective,
            batches,
            lambda _, folder: dcdd.save(folder, dtype=torch.float16),
            preview,
            pace,
            None if others is None else held_out,
            inputs | ({"calibration": decoder.calibration.fingerprint()} if self.calibration else {}),
        )

    def _inputs(
        self, source: Source, tokenizer: nn.Module, space: Any, decoder: DCDDConfig, vlm: nn.Module | None
    ) -> dict[str, str]:
        """Fingerprints of all that the cached arrays depend on; the cache is named by them."""
        parts = {
            "images": source.fingerprint(),
            "tokenizer": reader_fingerprint(tokenizer),
            "image space": reader_fingerprint(space),
            "scale of the image space": fingerprint(torch.tensor([space.shift, space.scale])),
        }
        if isinstance(self.latents, Sample):
            parts["latents"] = self.latents.fingerprint()
        if vlm is not None:
            parts["VLM"] = reader_fingerprint(vlm)
        if isinstance(self.distribution, TeacherForced):
            parts["distribution"] = self.distribution.fingerprint()
            parts["LCDM"] = decoder.lcdm.fingerprint()
            parts["calibration"] = decoder.calibration.fingerprint()
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
