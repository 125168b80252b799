"""The two trainings of a MaDiT: codes and trunk, then the flow around them.

images -VAE-> latents, nats (cached) -StageOneRun-> a MaDiT folder -StageTwoRun-> the same with its flow
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor, nn

from ..checkpoint import fingerprint, resolve, write_text
from ..data.encoded import Encode, Encoded, reader_fingerprint
from ..data.sources import ImageSource, Source, WorldImages, shuffled_rows
from ..flow.time_laws import TimeLaw, Uniform
from ..nn.codebook import alarm
from ..pretrained.vlm.loading import load_tokenizer
from ..protocols import VisualTokenizer, VisualTokens
from ..training import CachedRun, Job
from ..training.job import Pace
from .conditions import OBSERVED
from .distributions import widened
from .heads import Regression
from .model import MaDiT, MaDiTConfig
from .objectives import MaskConfig, QuantiserSchedule, StageOne, StageTwo
from .observing import Observing
from .patches import latent_kl, patch_kl, patchify, posterior

HELD = 64
"""Images that no step takes, whose loss is logged beside that of the others."""
PREVIEW = 8


class MaDiTRun(CachedRun):
    """What both stages of a MaDiT have in common."""

    images: ImageSource = WorldImages()
    masks: MaskConfig = MaskConfig()
    exact: int = Field(default=16_384, ge=1)
    """Images of the exact pass over codewords when the run ends."""

    def _job(
        self,
        objective: nn.Module,
        images: Images,
        export: Callable[[nn.Module, Path], None],
        pace: Pace = lambda name: 1.0,
    ) -> Job:
        others = self.images.held_out(HELD)

        def held_out() -> dict[str, Tensor]:
            assert others is not None
            rows = range(min(HELD, len(others)))
            return images.of(others.images(rows), others.captions(rows) if images.needs_captions else None)

        return Job(
            objective,
            lambda part, size: images[shuffled_rows(part, size, len(images.source))],
            export,
            images.preview,
            pace,
            held_out=None if others is None else held_out,
            inputs=images.inputs,
        )


class Images:
    """The images of a source as a MaDiT trains on them: latents and nats, computed once; words; features of a borrowed
    tokenizer; a language model's distributions."""

    def __init__(
        self,
        model: MaDiT,
        source: Source,
        encoded: Callable[[str, Source, Encode, Mapping[str, str]], Encoded],
        device: torch.device,
        tokenizer: VisualTokenizer | None = None,
        observing: Observing | None = None,
    ) -> None:
        self.model, self.source, self.device, self.tokenizer = model, source, device, tokenizer
        self.observing, self.reads_captions = observing, model.vocabulary is not None
        self.needs_captions = self.reads_captions or observing is not None
        space = model.codes.space
        assert isinstance(space, nn.Module)
        statistics = torch.tensor([float(getattr(space, name, 0.0)) for name in ("scale", "shift")])
        self.inputs = {
            "images": source.fingerprint(),
            "image space": reader_fingerprint(space.to(device)),
            "scale of the image space": fingerprint(statistics),
        }
        if isinstance(tokenizer, nn.Module):
            self.inputs["tokenizer"] = reader_fingerprint(tokenizer)
        if observing is not None:
            known = f"{observing.language.fingerprint()} {sorted(model.observers)}"
            self.inputs["language model"] = fingerprint({"known": torch.tensor(list(known.encode()))})

        def encode(images: Tensor, rows: Sequence[int]) -> dict[str, Tensor]:
            return self._read(images, source.captions(rows) if self.observing else None)

        self.arrays = encoded("madit", source, encode, self.inputs)

    def __getitem__(self, rows: Sequence[int]) -> dict[str, Tensor]:
        captions = self.source.captions(rows) if self.reads_captions else None
        return self._batch(self.arrays[rows], captions)

    def of(self, images: Tensor, captions: Sequence[str] | None) -> dict[str, Tensor]:
        """A batch of images that are not in the source."""
        arrays = {name: value.cpu() for name, value in self._read(images, captions).items()}
        return self._batch(arrays, captions)

    @torch.no_grad()
    def preview(self, _: nn.Module) -> Tensor:
        """Some images, and what the model draws of their tokens in few rounds."""
        rows = range(min(PREVIEW, len(self.source)))
        if not bool(self.model.codes.codewords.seen.any()):  # vectors are not rounded yet: there are no tokens
            return self.source.images(rows)
        batch = self[rows]
        captions = self.source.captions(rows) if self.reads_captions else None
        codes, input_ = self.model.codes, self.model.config.input
        ids = codes.ids(batch).cpu()
        decided = {name: input_.decided(codes, ids) for name in input_.observers(codes)}
        tokens = VisualTokens(ids, codes.grid, decided, captions)  # pyright: ignore[reportArgumentType]
        drawn = self.model(tokens, steps=min(4, self.model.steps))
        return torch.cat([self.source.images(rows), drawn.cpu()])

    def measured(self, count: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Ids, patches and nats for the exact pass."""
        count = min(count, len(self.source))
        for first in range(0, count, HELD):
            batch = self._batch(self.arrays[range(first, min(first + HELD, count))], None)
            yield self.model.codes.ids(batch).cpu(), batch["patches"], batch["kl"]

    def _read(self, images: Tensor, captions: Sequence[str] | None) -> dict[str, Tensor]:
        space, images = self.model.codes.space, images.to(self.device)
        seen = posterior(space, images)
        arrays = {"latents": seen.mean.half(), "nats": latent_kl(space, seen)}
        if self.tokenizer is not None:
            arrays["features"] = self.tokenizer.features(images).half()
        if self.observing is not None:
            assert captions is not None
            arrays[OBSERVED] = self.observing.summary(self.model, images, captions).half()
        return arrays

    def _batch(self, arrays: dict[str, Tensor], captions: Sequence[str] | None) -> dict[str, Tensor]:
        patch = self.model.codes.config.patch
        batch = {"patches": patchify(arrays["latents"].float(), patch), "kl": patch_kl(arrays["nats"].float(), patch)}
        batch |= {name: arrays[name].float() for name in ("features", OBSERVED) if name in arrays}
        if captions is not None and self.model.vocabulary is not None:
            batch["words"] = self.model.vocabulary.ids(captions)
        return batch


class StageOneRun(MaDiTRun):
    """Codes, trunk and coarse head by regression. The folder is a MaDiT that draws by regression."""

    model: MaDiTConfig
    schedule: QuantiserSchedule = QuantiserSchedule()

    def job(self) -> Job:
        torch.manual_seed(self.train.seed)
        model = self.model.vary({"sampling.decoding": Regression()}).build()
        images = Images(model, self.images.open(), self.encoded, self.device)
        objective = StageOne(model, self.masks, self.schedule)

        def export(_: nn.Module, folder: Path) -> None:
            """Adapter and codes are stored in fp32, so that the tables are of the codes that are loaded."""
            counts = model.codes.measure(images.measured(self.exact))
            model.save(folder, dtype=torch.float16)
            write_text(folder / "codebook.txt", (alarm(counts) or "in use") + "\n")

        return self._job(objective, images, export)


class StageTwoRun(MaDiTRun):
    """The flow around the coarse patches of a trained MaDiT, or of one that starts from random weights over borrowed
    codes, whose trunk learns at the same time."""

    start: str | None = None
    """Folder of a stage-1 MaDiT; inputs that it does not read start at weight zero."""
    vlm: str | None = None
    """Without a start: the VLM whose tokenizer's codes are borrowed."""
    language: str | None = None
    """Folder of a language model that writes these codes: its distributions about the images are read in training, and
    proxies are made as undecided as they are. Without it all distributions are proxies."""
    model: MaDiTConfig = MaDiTConfig()
    """Head, input and sampling; without a start all of it."""
    repeats: int = Field(default=4, ge=1)
    """Times and noises for every context."""
    regression: float = Field(default=1.0, ge=0)
    """Weight of the regression beside the flow."""
    head_pace: float = Field(default=1.0, gt=0)
    """How many times the learning rates the flow's net learns with, which starts from nothing where the trunk does not."""
    time_law: TimeLaw = Uniform()

    def job(self) -> Job:
        torch.manual_seed(self.train.seed)
        if (self.start is None) == (self.vlm is None):
            raise ValueError("stage 2 starts from a trained stage 1 (start) or borrows a VLM's codes (vlm): name one")
        tokenizer = None if self.vlm is None else load_tokenizer(self.vlm, device=self.device)
        source, observing, config = self.images.open(), None, self.model
        if self.language is not None:
            observing, rows = Observing.load(resolve(self.language), self.device), range(min(HELD, len(source)))
            config = config.vary(input=observing.matched(config.input, source.images(rows), source.captions(rows)))
        model = self._borrowing(tokenizer) if tokenizer is not None else begun(config, resolve(str(self.start)))
        if observing is not None:
            model.require(observing.language.tokenizer)
        images = Images(model, source, self.encoded, self.device, tokenizer, observing)
        objective = StageTwo(
            model, self.masks, repeats=self.repeats, regression=self.regression, time_law=self.time_law
        )
        if tokenizer is not None:
            model.codes.measure(images.measured(self.exact))
        return self._job(
            objective,
            images,
            lambda _, folder: model.save(folder, dtype=torch.float16),
            lambda name: self.head_pace if name.startswith("model.head.net.") else 1.0,
        )

    def _borrowing(self, tokenizer: VisualTokenizer) -> MaDiT:
        codebook = tokenizer.codebook.cpu()
        model = self.model.vary({"codes.codes": len(codebook), "codes.dim": codebook.shape[1]}).build()
        model.codes.restore({"codebook": codebook})
        model.require(tokenizer)
        return model


def begun(config: MaDiTConfig, folder: Path) -> MaDiT:
    """A MaDiT that goes on from a trained one: its codes, words and trunk; head, input and sampling of the config."""
    trained = MaDiT.load(folder)
    config = trained.config.vary({"head": config.head, "input": config.input, "sampling": config.sampling})
    model = config.build(trained.codes, trained.vocabulary).train()
    state = trained.trunk.state_dict()
    state["token_in.weight"] = widened(state["token_in.weight"], model.trunk.token_in.in_features)
    model.trunk.load_state_dict(state)
    if trained.config.head == config.head:
        model.head.load_state_dict(trained.head.state_dict())
    else:
        model.head.coarse.load_state_dict(trained.head.coarse.state_dict())
    return model
