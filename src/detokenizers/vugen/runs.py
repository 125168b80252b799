"""The three trainings of VUGEN, each a config whose `job()` builds everything it needs.

AutoencoderRun (stage A) -> DistillationRun -> TowerRun (stage B); the baselines are TowerRuns with another target
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from ..checkpoint import DECODER, resolve
from ..config import Config
from ..data.sources import ImageSource, Source, WorldImages, shuffled_rows
from ..flow.loss import LossWeight, One
from ..flow.time_laws import LogitNormal, TimeLaw
from ..flow.time_shifts import FixedShift
from ..pretrained.vlm.feature_vlm import FeatureVLM
from ..pretrained.vlm.load_features import load_feature_vlm
from ..pretrained.vlm.text_cache import padded
from ..training import CachedRun, Job
from ..training.conditioned_flow import ConditionedFlow
from ..training.distil_run import HELD, PREVIEW, DistilRun, Student, TeachingRun
from ..training.flow_networks import NoTerm, terms_of
from ..training.flow_terms import Alignment
from .autoencoder import Autoencoder, AutoencoderConfig
from .decoders import LatentDecoder
from .model import VUGENConfig
from .objectives import ReducedFeatures, TowerObjective


class AutoencoderRun(TeachingRun):
    """Stage A: the reducer and the decoder learn together from the frozen VLM's features."""

    autoencoder: AutoencoderConfig = AutoencoderConfig()
    # PAPER GAP (docs/vugen.md#stage-a-losses): weights, time law and perceptual net are those of SSDD.
    time_law: TimeLaw = LogitNormal(shift=FixedShift())
    weight: LossWeight = One()
    noise: float = Field(default=0.0, ge=0)
    """Most noise that is added to reduced features while the decoder learns; 0 is the paper's."""
    start_images: int = Field(default=2048, ge=1)
    """Images whose features decide where the reducer starts (whitening, regression, principal components)."""
    statistics_images: int = Field(default=4096, ge=1)
    """Images whose reduced features decide the normalisation, after training."""

    @model_validator(mode="after")
    def _fits(self) -> AutoencoderRun:
        if isinstance(self.autoencoder.decoder, LatentDecoder) and not isinstance(self.perceptual, NoTerm):
            raise ValueError("a perceptual loss reads pixels, and a decoder of kind latents draws none; set it to none")
        return self

    def job(self) -> Job:
        torch.manual_seed(self.train.seed)
        device, source = self.device, self.images.open()
        vlm = load_feature_vlm(self.autoencoder.vlm, view=self.autoencoder.view, device=device)
        autoencoder = self.autoencoder.build(vlm).to(device)
        if self.start is None:
            autoencoder.start(_batches(source, self.start_images, device))
        else:
            autoencoder.go_on_from(resolve(self.start))
        objective = ConditionedFlow(
            ReducedFeatures(autoencoder, self.noise),
            autoencoder.decoder,
            self.time_law,
            terms_of(self.perceptual, self.alignment, autoencoder.net, device),
            self.weight,
        )

        def batches(part: int, size: int) -> dict[str, Tensor]:
            return {"images": source.images(shuffled_rows(part, size, len(source)))}

        def export(_: nn.Module, folder: Path) -> None:
            if self.start is None:
                autoencoder.measure(_batches(source, self.statistics_images, device))
            autoencoder.save(folder, dtype=torch.float16)

        clean = source.images(range(min(PREVIEW, len(source))))
        return Job(
            objective,
            batches,
            export,
            lambda _: _reconstructed(autoencoder, clean),
            held_out=_held_out(self.images),
            inputs={"images": source.fingerprint(), "VLM": vlm.fingerprint()},
        )


class DistillationRun(DistilRun):
    """One step for many: a student of an autoencoder's own decoder, which replaces it. The reducer stays as it is."""

    folder: str = "mini/vugen/target"
    """Of the autoencoder whose decoder teaches."""

    def student(self, device: torch.device) -> Student:
        folder = resolve(self.folder)
        autoencoder = Autoencoder.load(folder, _vlm_of(folder, device)).to(device)
        fingerprint = autoencoder.fingerprint()
        autoencoder.config = autoencoder.config.vary({"decoder.steps": 1})
        return Student(
            autoencoder.decoder,
            [autoencoder.size] * 2,
            partial(_condition, autoencoder),
            fingerprint,
            lambda folder: autoencoder.save(folder, dtype=torch.float16),
        )


class Repa(Config):
    """REPA (arXiv 2410.06940): hidden states of one layer are aligned with the VLM's unreduced features."""

    # PAPER GAP (docs/vugen.md#repa): layer, projector and weight are those of REPA, scaled to the depth.
    layer: int = Field(default=5, ge=1)
    """Counted from 1."""
    hidden: int = Field(default=2048, ge=1)
    """Width of the projector's two hidden layers."""
    weight: float = Field(default=0.5, gt=0)

    def build(self, width: int, channels: int) -> Alignment:
        # The features come with the batch, so nothing is asked for them here.
        return Alignment(width, channels, lambda images: images, hidden=[self.hidden] * 2, weight=self.weight)


class TowerRun(CachedRun):
    """Stage B: the generation tower learns to sample the target's latents of captioned images."""

    model: VUGENConfig = VUGENConfig()
    images: ImageSource = WorldImages()
    """With captions."""
    # PAPER GAP (docs/vugen.md#dropped-prompts): the share is not given.
    drop: float = Field(default=0.1, ge=0, le=1)
    """Share of the prompts that are replaced by the empty one, for guidance."""
    std: float = Field(default=1.0, gt=0)
    """Spread of the logit of training times; its mean is the model's shift."""
    repa: Repa | None = None
    """Of the REPA baseline."""

    def job(self) -> Job:
        torch.manual_seed(self.train.seed)
        device, source = self.device, self.images.open()
        vlm = load_feature_vlm(self.model.vlm, view=self.model.view, device=device)
        model = self.model.build(vlm).to(device)
        inputs = {"images": source.fingerprint(), "target": model.target.fingerprint()}
        features = {"VLM": vlm.fingerprint()}
        arrays = self.encoded("latents", source, partial(self._encode, model), inputs | (features if self.repa else {}))

        def texts(captions: Sequence[str]) -> dict[str, Tensor]:
            ids, lengths = padded([vlm.spell(text) for text in captions], vlm.pad)
            return {"ids": ids, "lengths": lengths}

        def batches(part: int, size: int) -> dict[str, Tensor]:
            rows = shuffled_rows(part, size, len(source))
            return {name: array.float() for name, array in arrays[rows].items()} | texts(source.captions(rows))

        others = self.images.held_out(HELD)

        def held_out() -> dict[str, Tensor]:
            assert others is not None
            rows = range(min(HELD, len(others)))
            found = self._encode(model, others.images(rows), rows)
            return {name: array.float() for name, array in found.items()} | texts(others.captions(rows))

        objective = TowerObjective(
            model.tower,
            vlm.language_model,
            vlm.spell(""),
            LogitNormal(shift=self.model.shift, std=self.std),
            drop=self.drop,
            alignment=self.repa.build(model.tower.width, vlm.channels) if self.repa else None,
            layer=self.repa.layer if self.repa else None,
        )
        prompts = source.captions(range(min(PREVIEW, len(source))))
        return Job(
            objective,
            batches,
            lambda _, folder: model.save(folder, dtype=torch.float16),
            lambda _: model(prompts, seeds=range(len(prompts)), steps=16).cpu(),
            held_out=None if others is None else held_out,
            inputs=inputs | features,
        )

    def _encode(self, model: Any, images: Tensor, rows: Sequence[int]) -> dict[str, Tensor]:
        images = images.to(model.tower.positions.device)
        arrays = {"latents": model.target.encode(images).half()}
        return arrays | ({"features": model.vlm.features(images).half()} if self.repa else {})


def _batches(source: Source, count: int, device: torch.device) -> Iterator[Float[Tensor, "b 3 h w"]]:
    """The first images of a source."""
    count = min(count, len(source))
    return (source.images(range(i, min(i + 64, count))).to(device) for i in range(0, count, 64))


def _held_out(images: ImageSource) -> Any:
    others = images.held_out(HELD)
    return None if others is None else lambda: {"images": others.images(range(min(HELD, len(others))))}


@torch.no_grad()
def _condition(autoencoder: Autoencoder, images: Tensor) -> Tensor:
    return autoencoder.condition(autoencoder.reducer(autoencoder.vlm.features(images)))


@torch.no_grad()
def _reconstructed(autoencoder: Autoencoder, clean: Tensor) -> Tensor:
    """Images above their reconstructions."""
    condition = _condition(autoencoder, clean.to(autoencoder.norm.mean))
    size = (autoencoder.size, autoencoder.size)
    drawn = autoencoder.decoder.sample(
        condition, size=size, seeds=range(len(clean)), steps=autoencoder.config.decoder.steps
    )
    return torch.cat([clean, drawn.cpu()])


def _vlm_of(folder: Path, device: torch.device) -> FeatureVLM:
    config = AutoencoderConfig.from_yaml(folder / DECODER)
    return load_feature_vlm(config.vlm, view=config.view, device=device)
