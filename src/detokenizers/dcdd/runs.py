"""One row of a DCDD table: which VLM, which images, whose belief, which decoder, how long.

images -frozen VQ, VAE (VLM)-> features, latents (beliefs), cached -batches-> DCDDObjective ; export = a DCDD folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ..checkpoint import fingerprint, load_tensors, resolve
from ..config import Config
from ..data.encoded import encoded
from ..data.sources import ImageSource, WorldImages, shuffled_rows
from ..flow.loss import LossWeight, One
from ..flow.time_law import LogitNormal, TimeLaw
from ..pretrained.loading import load_tokenizer, load_vlm
from ..protocols import Grid, VisualTokens
from ..training import Job, TrainConfig
from .beliefs import Belief, Proxy, TeacherForced
from .model import DCDD, WEIGHTS, DCDDConfig
from .objectives import DCDDObjective

PREVIEW = 8


class DCDDRun(Config):
    """Everything that decides what a DCDD training run computes."""

    recipe: str
    vlm: str
    """The frozen VLM whose tokens will be decoded: `mini`, a folder, or a Hub id. Training needs only its tokenizer,
    unless the belief is teacher-forced."""
    images: ImageSource = WorldImages()
    belief: Belief = Proxy()
    decoder: DCDDConfig = DCDDConfig()
    weight: LossWeight = One()
    time_law: TimeLaw = LogitNormal()
    start: str | None = None
    """A trained DCDD folder to go on from; columns it does not have start at zero."""
    cache: str = "out/cache"
    train: TrainConfig = TrainConfig()

    def job(self) -> Job:
        source, tokenizer = self.images.open(), load_tokenizer(self.vlm)
        dcdd = self.decoder.build(tokenizer.codebook)
        if self.start:
            begin_from(dcdd, resolve(self.start))
        space = dcdd.decoder.space
        vlm = load_vlm(self.vlm) if isinstance(self.belief, TeacherForced) else None

        def encode(images: Tensor, rows: Sequence[int]) -> dict[str, Tensor]:
            features = tokenizer.features(images)
            arrays = {"features": features.half(), "latents": space.encode(images).half()}
            if isinstance(self.belief, TeacherForced) and vlm is not None:
                ids, captions = tokenizer.tokens(features), source.captions(rows)
                seen = vlm.teacher_forced(captions, ids, observe=dcdd.observe, guidance=self.belief.guidance)
                arrays["observed"] = seen.half()
            return arrays

        arrays = encoded(source, encode, self._shards(tokenizer, space, vlm))

        def batches(part: int, size: int) -> dict[str, Tensor]:
            rows = shuffled_rows(part, size, len(source))
            return {name: array[rows].float() for name, array in arrays.items()}

        objective = DCDDObjective(dcdd, weight=self.weight, time_law=self.time_law, belief=self.belief)
        shown = {name: array[:PREVIEW].float() for name, array in arrays.items()}
        clean = source.images(range(PREVIEW))

        @torch.no_grad()
        def preview(_: nn.Module) -> Tensor:
            features = shown["features"]
            observed = shown.get("observed", dcdd.proxy(features))
            side = tokenizer.grid
            tokens = VisualTokens(tokenizer.tokens(features), Grid(*side), observed)
            plain = tokenizer.decode(tokenizer.codebook[tokens.ids])
            return torch.cat([clean, plain, dcdd(tokens, steps=16)])

        return Job(objective, batches, lambda _, folder: dcdd.save(folder, dtype=torch.float16), preview)

    def _shards(self, *encoders: nn.Module | None) -> Path:
        """A folder named by all that the cached arrays depend on."""
        parts: list[str] = [self.images.fingerprint()]
        parts += [fingerprint(encoder.state_dict()) for encoder in encoders if encoder is not None]
        if isinstance(self.belief, TeacherForced):
            parts += [
                self.belief.fingerprint(),
                self.decoder.reading.fingerprint(),
                self.decoder.calibration.fingerprint(),
            ]
        return Path(self.cache) / "-".join(part[:10] for part in parts)


def begin_from(dcdd: DCDD, folder: Path) -> None:
    """Copy the weights of a trained decoder; where this one reads more or fewer features, the shared columns.

    Raises:
        ValueError: the nets differ in more than what they read.
    """
    own = dcdd.state_dict()
    for name, tensor in load_tensors(folder / WEIGHTS).items():
        target = own.get(name)
        if target is None or target.shape[0] != tensor.shape[0] or target.ndim != tensor.ndim:
            raise ValueError(f"cannot start from {folder}: {name} does not fit this decoder's net")
        if target.shape == tensor.shape:
            target.copy_(tensor)
        elif target.ndim == 2:
            target.zero_()[:, : tensor.shape[1]] = tensor[:, : target.shape[1]]
        else:
            raise ValueError(f"cannot start from {folder}: {name} is {list(tensor.shape)}, not {list(target.shape)}")
