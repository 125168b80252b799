"""Training DCDD's pixel decoder, and distilling it to one step: `dcdd.one_step`. None of the papers has it.

images -frozen VQ encoder, calibrated distributions-> map ; PixelRun -> OneStepRun, a student of the first
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..checkpoint import load_into, resolve
from ..data.encoded import reader_fingerprint
from ..data.sources import FolderImages, WorldImages, shuffled_rows
from ..flow.time_laws import LogitNormal, TimeLaw
from ..flow.time_shifts import FixedShift
from ..nn.predictions import PredictClean
from ..nn.uvit import UViTConfig, uvit_size
from ..pretrained.vlm.loading import load_tokenizer
from ..protocols import Grid
from ..training import CachedRun, Job, TrainConfig
from ..training.conditioned_flow import ConditionedFlow
from ..training.distil_run import HELD, PREVIEW, DistilRun, Student, TeachingRun
from ..training.flow_networks import DINOv2Alignment, LPIPSPerceptual, NoTerm, terms_of
from ..training.optimizers import Muon
from ..training.schedules import Trapezoid
from .calibrate import calibrated
from .pixel_model import WEIGHTS, PixelDCDD, PixelDCDDConfig
from .recipes import MINI_CALIBRATION


class PixelRun(TeachingRun, CachedRun):
    """The decoder of many steps."""

    vlm: str = "mini"
    """Whose tokens will be decoded; training needs only its tokenizer."""
    calibration: str | None = None
    """What `detok calibrate` wrote for this VLM: its numbers take the place of `decoder.calibration`, of which only
    `vlm_side` stands. A report for another codebook is refused; `None` takes `decoder.calibration` as it is."""
    decoder: PixelDCDDConfig = PixelDCDDConfig()
    time_law: TimeLaw = LogitNormal(shift=FixedShift())

    def job(self) -> Job:
        torch.manual_seed(self.train.seed)
        device, source = self.device, self.images.open()
        tokenizer = load_tokenizer(self.vlm, device=device)
        config = calibrated(self.decoder, self.calibration, tokenizer.codebook)
        decoder = config.build(tokenizer.codebook.cpu()).to(device)
        if self.start:
            load_into(decoder.net, resolve(self.start) / WEIGHTS)

        def encode(images: Tensor, rows: Sequence[int]) -> dict[str, Tensor]:
            return {"features": tokenizer.features(images.to(device)).half()}

        inputs = {"images": source.fingerprint(), "tokenizer": reader_fingerprint(tokenizer)}
        arrays = self.encoded("dcdd", source, encode, inputs, more=True)

        def batches(part: int, size: int) -> dict[str, Tensor]:
            rows = shuffled_rows(part, size, len(source))
            return {"images": source.images(rows), "features": arrays[rows]["features"].float()}

        others = self.images.held_out(HELD)

        @torch.no_grad()
        def held_out() -> dict[str, Tensor]:
            assert others is not None
            images = others.images(range(min(HELD, len(others))))
            return {"images": images, "features": tokenizer.features(images.to(device))}

        clean = source.images(range(min(PREVIEW, len(source))))

        @torch.no_grad()
        def preview(_: nn.Module) -> Tensor:
            tokens = decoder.read(clean.to(decoder.codebook), tokenizer)
            plain = tokenizer.decode(tokenizer.codebook[tokens.ids])
            return torch.cat([clean, plain.cpu(), decoder(tokens).cpu()])

        objective = ConditionedFlow(
            lambda batch: _condition(decoder, batch["features"], tokenizer.grid),
            decoder.decoder,
            self.time_law,
            terms_of(self.perceptual, self.alignment, decoder.net, device),
        )
        return Job(
            objective,
            batches,
            lambda _, folder: decoder.save(folder, dtype=torch.float16),
            preview,
            held_out=None if others is None else held_out,
            inputs=inputs | ({"calibration": config.calibration.fingerprint()} if self.calibration else {}),
        )


class OneStepRun(DistilRun):
    """The same in one step, from its own many."""

    vlm: str = "mini"
    """Whose tokens its teacher decodes."""

    def student(self, device: torch.device) -> Student:
        """Raises a ValueError when the decoder reads another tokenizer's codes."""
        tokenizer, decoder = load_tokenizer(self.vlm, device=device), PixelDCDD.load(resolve(self.folder)).to(device)
        decoder.require(tokenizer)
        fingerprint = decoder.fingerprint()
        decoder.config, decoder.steps = decoder.config.vary(steps=1), 1
        return Student(
            decoder.decoder,
            [side * decoder.config.token_stride for side in tokenizer.grid],
            lambda images: _condition(decoder, tokenizer.features(images), tokenizer.grid),
            fingerprint,
            lambda folder: decoder.save(folder, dtype=torch.float16),
        )


@torch.no_grad()
def _condition(decoder: PixelDCDD, features: Float[Tensor, "b n d"], grid: Grid) -> Float[Tensor, "b o h w"]:
    with torch.autocast(features.device.type, enabled=False):  # distributions are fp32 whatever the net computes in
        return decoder.encode(decoder.proxy(features.float()), grid)


def janus_pixel_m() -> PixelRun:
    """U-ViT M (50M) on Janus-Pro tokens at 384 px: for one GPU, and without FLUX's licence."""
    return PixelRun(
        recipe="dcdd.janus_pixel_m",
        vlm="deepseek-community/Janus-Pro-7B",
        images=FolderImages(path="imagenet/train", size=384),
        calibration="out/janus/calibration.json",
        decoder=PixelDCDDConfig(net=uvit_size("M", 12)),
        perceptual=LPIPSPerceptual(),
        alignment=DINOv2Alignment(side=48),
        distilled="dcdd.janus_one_step",
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


def mini_pixels() -> PixelRun:
    """DCDD on the embedded stack, drawing pixels in eight steps, from the flow error alone. Eight minutes of an H200 that a
    dozen other trainings share, or some seven hours of one core."""
    net = UViTConfig(widths=(40, 64, 96), blocks=3, heads=4, patch=2, groups=8, predict=PredictClean())
    return PixelRun(
        recipe="dcdd.mini_pixels",
        images=WorldImages(count=40_960),
        calibration=MINI_CALIBRATION,
        decoder=PixelDCDDConfig(net=net, token_stride=8, temperature=0.0),
        perceptual=NoTerm(),
        alignment=NoTerm(),
        distilled="dcdd.one_step",
        train=TrainConfig(steps=5000, batch_size=64, lr=1e-3, optimizer=Muon(lr=3e-3), schedule=Trapezoid(decay=0.3)),
    )


def one_step() -> OneStepRun:
    """DCDD on the embedded stack in one step. Two minutes of an H200 that is shared, or an hour or two of one core."""
    return OneStepRun(
        recipe="dcdd.one_step",
        folder="out/dcdd/mini_pixels",
        images=WorldImages(count=40_960),
        perceptual=NoTerm(),
        alignment=NoTerm(),
        kept=4096,
        train=TrainConfig(
            steps=1000, batch_size=64, lr=5e-4, warmup=50, optimizer=Muon(lr=1e-3), schedule=Trapezoid(decay=0.5)
        ),
    )


RECIPES = {f"dcdd.{row.__name__}": row for row in (janus_pixel_m, janus_one_step, mini_pixels, one_step)}


KINDS = {"dcdd_pixels": PixelDCDD.load}
