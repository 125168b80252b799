"""The training behind `detok distill`: the decoder of a finished run learns to draw in one step what it draws in many.

A paper gives its decoder, and how a condition is computed from images; the rest is the same for all.

TeachingRun's folder -DistilRun.student-> Student ; images -condition-> map ; the student's copy draws pairs -> Job
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from ..data.sources import ImageSource, WorldImages, shuffled_rows
from .distillation import DRAWN, ROWS, Distillation, Teacher, cached_pair
from .flow_networks import AlignmentTerm, PerceptualTerm, WorldAlignment, WorldPerceptual, terms_of
from .job import Job
from .run import CachedRun, Run

PREVIEW, HELD = 8, 64
"""Images on a preview's sheet, and images that no step takes, whose loss is logged beside that of the others."""


class TeachingRun(Run):
    """The training of a decoder of many steps, which can be distilled afterwards."""

    images: ImageSource = WorldImages()
    perceptual: PerceptualTerm = WorldPerceptual()
    alignment: AlignmentTerm = WorldAlignment()
    start: str | None = None
    """Folder of a finished run of this kind. Its decoder learns on, and nothing else: what samples its condition stays
    valid."""
    distilled: str
    """The recipe by which `detok distill` makes a decoder of one step of it."""


class Student(NamedTuple):
    """A trained decoder of many steps, about to become one of one step."""

    decoder: Any
    """A `FlowDecoder` whose net has `traced`."""
    size: Sequence[int]
    """Height and width of its images."""
    condition: Callable[[Float[Tensor, "b 3 h w"]], Float[Tensor, "b k hc wc"]]
    """Of images, on the decoder's device; nothing of it learns."""
    fingerprint: str
    """Of all that decides what the teacher draws."""
    export: Callable[[Path], None]
    """Writes it, as one of one step."""


class DistilRun(CachedRun):
    """One step for many: a student of a decoder, which starts as its copy."""

    folder: str
    """Of the decoder that teaches."""
    images: ImageSource = WorldImages()
    perceptual: PerceptualTerm = WorldPerceptual()
    alignment: AlignmentTerm = WorldAlignment()
    teacher_steps: int = Field(default=8, ge=1)
    kept: int | None = Field(default=None, ge=1)
    """Let the teacher draw so many of the images once, and keep what it drew; `None` draws anew at every step."""

    @abstractmethod
    def student(self, device: torch.device) -> Student:
        """The decoder in `folder`."""

    def of(self, run: TeachingRun, folder: str) -> Self:
        """These settings for the decoder of a run; what both have a setting for is as the decoder learnt with it."""
        shared = (type(self).model_fields.keys() & type(run).model_fields.keys()) - {"recipe", "train"}
        return self.vary({name: getattr(run, name) for name in shared}, folder=folder)

    def job(self) -> Job:
        torch.manual_seed(self.train.seed)
        device, source, others = self.device, self.images.open(), self.images.held_out(HELD)
        student = self.student(device)
        decoder, condition = student.decoder, torch.no_grad()(lambda images: student.condition(images.to(device)))
        shape = (decoder.space.channels, *(side // decoder.space.stride for side in student.size))
        teacher = Teacher(copy.deepcopy(decoder.net), decoder.grid(self.teacher_steps, shape), shape)
        decoder.net.requires_grad_(True)
        inputs = {"images": source.fingerprint(), "teacher": student.fingerprint, "steps": str(self.teacher_steps)}
        count = min(self.kept or len(source), len(source))

        def drawn(images: Tensor, rows: Sequence[int]) -> dict[str, Tensor]:
            return {DRAWN: teacher.of_rows(list(rows), condition(images)).half()} if self.kept else {}

        kept = self.encoded("drawn", source, drawn, inputs | {"count": str(count)}, count=count) if self.kept else None

        def batches(part: int, size: int) -> dict[str, Tensor]:
            rows = shuffled_rows(part, size, count)
            pairs = kept[rows] if kept else {}
            return {"images": source.images(rows), ROWS: torch.tensor(rows), **pairs}

        def held_out() -> dict[str, Tensor]:
            assert others is not None
            rows = range(min(HELD, len(others)))
            images, noise = others.images(rows), [-1 - row for row in rows]  # of no row that a step takes
            return {"images": images, ROWS: torch.tensor(noise), **drawn(images, noise)}

        clean = source.images(range(min(PREVIEW, len(source))))

        def preview(_: nn.Module) -> Tensor:
            size, seeds = tuple(student.size), range(len(clean))
            return torch.cat([clean, decoder.sample(condition(clean), size=size, seeds=seeds, steps=1).cpu()])

        objective = Distillation(
            decoder.net,
            lambda batch: condition(batch["images"]),
            cached_pair if self.kept else teacher,
            terms_of(self.perceptual, self.alignment, decoder.net, device),
        )
        return Job(
            objective,
            batches,
            lambda _, folder: student.export(folder),
            preview,
            held_out=None if others is None else held_out,
            inputs=inputs,
        )
