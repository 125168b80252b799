"""How MaDiT learns, in two stages: codes and trunk by regression of hidden patches, then the flow around it.

patches, words -codes, random visible set-> trunk -> coarse -error over hidden patches (stage 1)
                                                  -> flow -error at random times, codes frozen (stage 2)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from ..config import Config
from ..flow.path import interpolate
from ..flow.time_laws import TimeLaw, Uniform
from ..nn.codebook import nearest, perplexity, usage
from ..nn.prenorm import rows_at
from ..training.draws import normal_like, per_item, uniform
from ..training.processes import everywhere
from .model import MaDiT
from .orders import num_masked
from .tokenizer import MaDiTTokenizer
from .vocabulary import Words

LOW = 0.8
"""Masking ratios below this count as low in the log."""


class MaskConfig(Config):
    """How much is hidden, and how often the condition is."""

    ratio: tuple[float, float] = (0.7, 1.0)
    """Bounds of the masking ratio, one draw a step."""
    full: float = Field(default=0.1, ge=0, le=1)
    """Share of steps in which all is hidden, as in the first round of every drawing."""
    drop: float = Field(default=0.1, ge=0, lt=1)
    """Share of items whose tokens and words are replaced by the dummy, for guidance."""
    drop_text: float = Field(default=0.1, ge=0, lt=1)
    """Share of items whose words are left out, so that images without captions can be drawn."""
    noise_visible: float = Field(default=0.0, ge=0)
    """Standard deviation of noise on visible patches, which are true ones here and drawn ones later."""


class Hidden(NamedTuple):
    """Which patches an item shows and which it hides."""

    visible: Int[Tensor, "b k"]
    masked: Int[Tensor, "b m"]


def hidden(batch: Mapping[str, Tensor], patches: int, count: int) -> Hidden:
    """`count` patches of each item hidden, by a permutation of the item's own."""
    order = per_item(batch, "hidden patches", lambda generator: torch.randperm(patches, generator=generator))
    order = order.to(batch["patches"].device)
    return Hidden(order[:, count:], order[:, :count])


class Running(nn.Module):
    """Means of what is not there in every step, such as the error of the few items that were dropped."""

    values: Tensor

    def __init__(self, *names: str, decay: float = 0.8) -> None:
        super().__init__()
        self.names, self.decay = names, decay
        self.register_buffer("values", torch.full((len(names),), torch.nan))

    @torch.no_grad()
    def update(self, name: str, errors: Float[Tensor, "k"]) -> None:
        """Take in some items' errors; none at all change nothing."""
        if errors.numel():
            value = self.values[self.names.index(name)]
            value.copy_(errors.mean() if bool(value.isnan()) else torch.lerp(errors.mean(), value, self.decay))

    def known(self) -> dict[str, Tensor]:
        """The means so far; 0 where nothing came in yet."""
        return dict(zip(self.names, self.values.nan_to_num(0.0).clone()))


class MaskedObjective(nn.Module):
    """What both stages share. Batch: `patches` [b n d], `kl` [b n], `words` [b s] (-1 where there is none)."""

    step: Tensor

    def __init__(self, model: MaDiT, masks: MaskConfig) -> None:
        super().__init__()
        self.model, self.masks = model, masks
        self.running = Running("mse_full", "mse_low", "mse_kept", "mse_dropped")
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    def hide(self, batch: Mapping[str, Tensor]) -> Hidden:
        """One masking ratio for the whole batch; in evaluation everything is hidden, which is the tokenizer's score.

        The ratio follows the step and not the items, so that all processes compute sequences of one length.
        """
        generator = torch.Generator().manual_seed(int(self.step))
        first, second = torch.rand(2, generator=generator).tolist()
        low, high = self.masks.ratio
        ratio = 1.0 if first < self.masks.full or not self.training else low + (high - low) * second
        patches = batch["patches"].shape[1]
        return hidden(batch, patches, num_masked(patches, ratio))

    def context(
        self, batch: Mapping[str, Tensor], features: Tensor, where: Hidden
    ) -> tuple[Float[Tensor, "b m w"], Bool[Tensor, "b"]]:
        """The context of the hidden patches, and which items were dropped."""
        dropped = uniform(batch, "dropped condition", 1)[:, 0] < self.masks.drop
        dropped = dropped & self.training
        patches = batch["patches"].float()
        if self.masks.noise_visible and self.training:
            patches = patches + self.masks.noise_visible * normal_like(batch, "noise on visible", patches)
        words = self._words(batch)
        return self.model.trunk(features, patches, where.visible, words, dropped, where.masked), dropped

    def log(self, errors: Float[Tensor, "b"], dropped: Bool[Tensor, "b"], share: float) -> dict[str, Tensor]:
        """Errors by what was hidden and dropped. `context_gain` is what visible patches add to the tokens: where
        it is zero neither the order of drawing nor words can matter."""
        errors = errors.detach()
        if self.training:
            self.running.update("mse_kept", errors[~dropped])
            self.running.update("mse_dropped", errors[dropped])
            bucket = "mse_full" if share == 1 else "mse_low" if share < LOW else None
            if bucket:
                self.running.update(bucket, errors[~dropped])
        known = self.running.known()
        full, low = known["mse_full"], known["mse_low"]
        return {**known, "context_gain": torch.where((full > 0) & (low > 0), full - low, torch.zeros_like(full))}

    def _words(self, batch: Mapping[str, Tensor]) -> Words | None:
        vocabulary = self.model.vocabulary
        if vocabulary is None or "words" not in batch:
            return None
        words = vocabulary.words(batch["words"])
        shown = uniform(batch, "dropped words", 1) >= self.masks.drop_text
        return Words(words.vectors, words.keep & (shown | (not self.training)))


class QuantiserSchedule(Config):
    """When vectors begin to be rounded, and when codes stop moving. Steps."""

    unquantised: int = Field(default=0, ge=0)
    """So long the adapter's vectors are passed on as they are; then clusters of the latest ones become the codes."""
    frozen: int | None = None
    """From here on codes stay where they are, so that no token changes its meaning at the end; never if none."""
    collect: int = Field(default=32_768, ge=1)
    """How many of the latest vectors are clustered."""
    skip: float = Field(default=0.0, ge=0, lt=1)
    """Share of vectors that are never rounded (X-Omni trains with a tenth)."""
    kl_alpha: float = Field(default=0.01, gt=0, le=1)
    """Rate of the codewords' running mean KL."""


class StageOne(MaskedObjective):
    """Tokenizer and trunk by regression (paper Eq. 1 with the coarse head): mean squared error of hidden patches, plus
    the quantiser's own loss."""

    recent: Tensor

    def __init__(
        self,
        model: MaDiT,
        masks: MaskConfig = MaskConfig(),  # noqa: B008
        schedule: QuantiserSchedule = QuantiserSchedule(),  # noqa: B008
    ) -> None:
        super().__init__(model, masks)
        assert isinstance(model.codes, MaDiTTokenizer)
        self.codes, self.schedule = model.codes, schedule
        model.head.net.requires_grad_(False)  # its turn is stage 2
        self.register_buffer("recent", torch.zeros(schedule.collect, model.codes.config.dim))

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        patches, step = batch["patches"].float(), int(self.step)
        vectors = F.normalize(self.codes.vectors(patches).float(), dim=-1)
        quantiser, schedule = self.codes.quantiser, self.schedule
        if self.training and step == schedule.unquantised and step:
            quantiser.seed(self.recent[self.recent.any(-1)])  # fewer than there is room for, early on
        codes, ids, own = quantiser(vectors)
        if self.training and step < schedule.unquantised:
            codes, own = vectors, 0 * own
        elif self.training and schedule.skip:
            through = uniform(batch, "skipped rounding", vectors.shape[1]) < schedule.skip
            codes = torch.where(through[..., None], vectors, codes)
        where = self.hide(batch)
        context, dropped = self.context(batch, codes, where)
        errors = (self.model.head.coarse(context).float() - rows_at(patches, where.masked)).square().mean((1, 2))
        if self.training:
            self._follow(everywhere(vectors.detach()), everywhere(ids), everywhere(batch["kl"]), step)
            self.step += 1
        mse = errors.mean()
        counts = quantiser.counts()
        known = {"usage": usage(counts), "perplexity": perplexity(counts) / len(counts)}
        return {
            "loss": mse + own,
            "mse": mse,
            "quantiser": own,
            **{name: mse.new_tensor(value) for name, value in known.items()},
            **self.log(errors, dropped, where.masked.shape[1] / patches.shape[1]),
        }

    @torch.no_grad()
    def _follow(self, vectors: Tensor, ids: Tensor, kl: Tensor, step: int) -> None:
        vectors, ids, schedule = vectors.flatten(0, 1), ids.flatten(), self.schedule
        if step < schedule.unquantised:
            rows = (step * len(vectors) + torch.arange(len(vectors), device=vectors.device)) % len(self.recent)
            self.recent[rows[-len(self.recent) :]] = vectors[-len(self.recent) :]
        elif schedule.frozen is None or step < schedule.frozen:
            restarted = self.codes.quantiser.update(vectors, ids)
            self.codes.codewords.forget(restarted)
            self.codes.codewords.update(ids, self.codes.layout.by_token(kl.float()).flatten(0, 1), schedule.kl_alpha)


class StageTwo(MaskedObjective):
    """The flow around the coarse patches (paper Eqs. 2-3, with the velocity of contradiction C2), and the regression
    beside it. Codes are frozen: ids, tables and a language model's corpus depend on them."""

    def __init__(
        self,
        model: MaDiT,
        masks: MaskConfig = MaskConfig(),  # noqa: B008
        *,
        repeats: int = 4,
        regression: float = 1.0,
        time_law: TimeLaw = Uniform(),  # noqa: B008
    ) -> None:
        super().__init__(model, masks)
        model.trunk.requires_grad_(True)
        model.head.requires_grad_(True)
        model.codes.requires_grad_(False)
        self.repeats, self.regression, self.time_law = repeats, regression, time_law

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Batch: as in stage 1, and unit `features` [b l d] where the codes are borrowed."""
        patches, head = batch["patches"].float(), self.model.head
        where = self.hide(batch)
        context, dropped = self.context(batch, self._features(batch), where)
        clean, coarse = rows_at(patches, where.masked), head.coarse(context).float()
        errors = (coarse - clean).square().mean((1, 2))
        flow = torch.stack([self._flow_error(batch, r, clean, coarse, context) for r in range(self.repeats)]).mean()
        if self.training:
            self.step += 1
        mse = errors.mean()
        share = where.masked.shape[1] / patches.shape[1]
        return {
            "loss": flow + self.regression * mse,
            "flow": flow,
            "mse": mse,
            **self.log(errors, dropped, share),
        }

    def _flow_error(
        self, batch: Mapping[str, Tensor], number: int, clean: Tensor, coarse: Tensor, context: Tensor
    ) -> Float[Tensor, ""]:
        """Each hidden patch at a time of its own; the coarse patch is input and centre, and learns nothing here."""
        head, coarse = self.model.head, coarse.detach()
        noise = normal_like(batch, f"flow noise {number}", clean)
        law, shape = self.time_law, (clean.shape[-1], 1, 1)
        t = per_item(batch, f"flow time {number}", lambda generator: law(clean.shape[1], shape, generator=generator))
        t = t.to(clean.device)
        noisy = interpolate(clean.flatten(0, 1), noise.flatten(0, 1), t.flatten()).view_as(clean)
        o = head.output(noisy, t, context, coarse)
        return (o.float() - head.config.velocity.target(clean, noise, coarse)).square().mean()

    def _features(self, batch: Mapping[str, Tensor]) -> Tensor:
        codes = self.model.codes
        # Drawing computes tokens in fp32; half precision would train on others.
        with torch.no_grad(), torch.autocast(codes.codebook.device.type, enabled=False):
            units = codes.units(batch)
            return self.model.config.input.trained(codes, batch, units, nearest(units, codes.codebook))
