"""Training DCDD's pixel decoder, and distilling it to one step: `dcdd.one_step`. None of the papers has it.

images -frozen VQ encoder, calibrated distributions-> map ; PixelRun -> OneStepRun, a student of the first
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from ..checkpoint import resolve
from ..data.sources import FolderImages, ImageSource, WorldImages, shuffled_rows
from ..flow.time_laws import LogitNormal, TimeLaw
from ..flow.time_shifts import FixedShift
from ..nn.predictions import PredictClean
from ..nn.uvit import UViTConfig, uvit_size
from ..pretrained.vlm.loading import load_tokenizer
from ..protocols import VisualTokenizer
from ..training import Job, Run, TrainConfig
from ..training.conditioned_flow import ConditionedFlow
from ..training.distillation import Distillation, Teacher
from ..training.flow_networks import (
    AlignmentTerm,
    DINOv2Alignment,
    LPIPSPerceptual,
    PerceptualTerm,
    WorldAlignment,
    WorldPerceptual,
    terms_of,
)
from ..training.optimizers import Muon
from .calibration import Calibration
from .pixel_model import PixelDCDD, PixelDCDDConfig

PREVIEW, HELD = 8, 64


class PixelTraining(Run):
    """What both trainings have in common."""

    vlm: str = "mini"
    """Whose tokens will be decoded; training needs only its tokenizer."""
    images: ImageSource = WorldImages()
    perceptual: PerceptualTerm = WorldPerceptual()
    alignment: AlignmentTerm = WorldAlignment()

    def made(self, decoder: PixelDCDD, tokenizer: VisualTokenizer, objective: nn.Module) -> Job:
        """The job around an objective."""
        source, others = self.images.open(), self.images.held_out(HELD)
        clean = source.images(range(min(PREVIEW, len(source))))

        @torch.no_grad()
        def preview(_: nn.Module) -> Tensor:
            tokens = decoder.read(clean.to(decoder.codebook), tokenizer)
            plain = tokenizer.decode(tokenizer.codebook[tokens.ids])
            return torch.cat([clean, plain.cpu(), decoder(tokens).cpu()])

        def held_out() -> dict[str, Tensor]:
            assert others is not None
            return {"images": others.images(range(min(HELD, len(others))))}

        return Job(
            objective,
            lambda part, size: {"images": source.images(shuffled_rows(part, size, len(source)))},
            lambda _, folder: decoder.save(folder, dtype=torch.float16),
            preview,
            held_out=None if others is None else held_out,
        )


class PixelRun(PixelTraining):
    """The decoder of many steps."""

    decoder: PixelDCDDConfig = PixelDCDDConfig()
    time_law: TimeLaw = LogitNormal(shift=FixedShift())

    def job(self) -> Job:
        torch.manual_seed(self.train.seed)
        device = self.device
        tokenizer = load_tokenizer(self.vlm, device=device)
        decoder = self.decoder.build(tokenizer.codebook.cpu()).to(device)
        terms = terms_of(self.perceptual, self.alignment, decoder.net, device)
        objective = ConditionedFlow(_condition(decoder, tokenizer), decoder.decoder, self.time_law, terms)
        return self.made(decoder, tokenizer, objective)


class OneStepRun(PixelTraining):
    """The same in one step, from its own many."""

    folder: str = "out/dcdd/pixels"
    """Of the decoder that teaches."""
    teacher_steps: int = Field(default=8, ge=1)

    def job(self) -> Job:
        """Raises a ValueError when the decoder reads another tokenizer's codes."""
        torch.manual_seed(self.train.seed)
        device, folder = self.device, resolve(self.folder)
        tokenizer = load_tokenizer(self.vlm, device=device)
        decoder = PixelDCDD.load(folder).to(device)
        decoder.require(tokenizer)
        sides = [side * decoder.config.token_stride for side in tokenizer.grid]
        shape = (decoder.decoder.space.channels, *sides)
        times = decoder.decoder.grid(self.teacher_steps, shape)
        teacher = Teacher(copy.deepcopy(decoder.net), times, shape)  # pyright: ignore[reportArgumentType]
        decoder.net.requires_grad_(True)
        decoder.config, decoder.steps = decoder.config.vary(steps=1), 1
        terms = terms_of(self.perceptual, self.alignment, decoder.net, device)
        return self.made(decoder, tokenizer, Distillation(decoder.net, _condition(decoder, tokenizer), teacher, terms))


def _condition(decoder: PixelDCDD, tokenizer: VisualTokenizer) -> Callable[[Any], Tensor]:
    @torch.no_grad()
    def condition(batch: Any) -> Tensor:
        features = tokenizer.features(batch["images"])
        with torch.autocast(features.device.type, enabled=False):  # distributions are fp32 whatever the net computes in
            return decoder.encode(decoder.proxy(features.float()), tokenizer.grid)

    return condition


def janus_pixel_m() -> PixelRun:
    """U-ViT M (50M) on Janus-Pro tokens at 384 px: for one GPU, and without FLUX's licence."""
    return PixelRun(
        recipe="dcdd.janus_pixel_m",
        vlm="deepseek-community/Janus-Pro-7B",
        images=FolderImages(path="imagenet/train", size=384),
        decoder=PixelDCDDConfig(calibration=Calibration(kappa=27.0), net=uvit_size("M", 12)),
        perceptual=LPIPSPerceptual(),
        alignment=DINOv2Alignment(side=48),
        train=TrainConfig(steps=200_000, batch_size=64, lr=3e-4, warmup=2000, clip=0.1, precision="bf16", workers=8),
    )


def janus_one_step() -> OneStepRun:
    """The same in one step."""
    return OneStepRun(
        recipe="dcdd.janus_one_step",
        vlm="deepseek-community/Janus-Pro-7B",
        folder="out/dcdd/janus_pixel_m",
        images=FolderImages(path="imagenet/train", size=384),
        perceptual=LPIPSPerceptual(),
        alignment=DINOv2Alignment(side=48),
        train=TrainConfig(steps=20_000, batch_size=64, lr=1e-4, warmup=1000, clip=0.1, precision="bf16", workers=8),
    )


MINI = TrainConfig(steps=6000, batch_size=16, lr=1e-3, optimizer=Muon(lr=3e-3))


def mini_pixels() -> PixelRun:
    """DCDD on the embedded stack, drawing pixels in eight steps. About 40 minutes of one core."""
    net = UViTConfig(widths=(48, 96), blocks=3, heads=4, patch=4, groups=8, predict=PredictClean())
    return PixelRun(
        recipe="dcdd.mini_pixels",
        decoder=PixelDCDDConfig(calibration=Calibration(kappa=27.0), net=net, token_stride=8),
        train=MINI,
    )


def one_step() -> OneStepRun:
    """DCDD on the embedded stack in one step. About 20 minutes of one core."""
    return OneStepRun(
        recipe="dcdd.one_step",
        folder="out/dcdd/mini_pixels",
        train=MINI.vary(steps=1500, lr=5e-4, optimizer=Muon(lr=1e-3)),
    )


RECIPES = {f"dcdd.{row.__name__}": row for row in (janus_pixel_m, janus_one_step, mini_pixels, one_step)}


def load(folder: Path) -> PixelDCDD:
    """What `dt.load` makes of a folder of kind `dcdd_pixels`."""
    return PixelDCDD.load(folder)


KINDS = {"dcdd_pixels": load}
