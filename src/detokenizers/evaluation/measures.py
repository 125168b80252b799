"""Numbers of single pictures: a measure turns a batch into columns of one value per picture, and columns into scores.

Columns are what shards keep, by id, so means, intervals and paired differences are made at the very end and do not
depend on which process measured which pictures. Variants are parts: `SSIM(window)`, `Perceptual(name, label)`.

Batch(ids, originals, prompts), drawn [b 3 h w] -columns-> {key: [b]} -scores, differences-> results with intervals
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from .bootstrap import interval_of
from .networks import Networks
from .pairwise import Window, gradient_energy, psnr, ssim
from .results import Metric, Result, mean_of, measured

Columns = dict[str, Float[Tensor, "n"]]
"""One value per picture under each key."""
Scores = dict[str, Result]


@dataclass
class Batch:
    """Pictures that are measured together, with what several decoders share of them."""

    ids: list[str]
    truth: Float[Tensor, "b 3 h w"] | None = None
    prompts: list[str] | None = None
    kept: dict[str, Any] = field(default_factory=dict)

    def once(self, key: str, make: Callable[[], Any]) -> Any:
        """What is computed for the first decoder and used by all: the truth's activations, the captions' embeddings."""
        if key not in self.kept:
            self.kept[key] = make()
        return self.kept[key]

    @property
    def originals(self) -> Float[Tensor, "b 3 h w"]:
        if self.truth is None:
            raise ValueError("this metric compares pairs, and there are no originals; give --reference or --world")
        return self.truth


class Measure(ABC):
    """One metric of single pictures. Unless a measure does otherwise, its numbers are the means of its columns."""

    name: str
    metrics: Mapping[str, Metric] = {}
    pairs = True
    """Whether it compares with an original."""
    prompts = False
    """Whether it reads what the picture should show."""

    @abstractmethod
    def columns(self, batch: Batch, drawn: Float[Tensor, "b 3 h w"], networks: Networks) -> Columns:
        """One value per picture under each key."""

    def scores(self, columns: Columns, num_resamples: int, seed: int) -> Scores:
        """Means with their intervals."""
        return {key: mean_of(metric, columns[key], num_resamples, seed) for key, metric in self.metrics.items()}

    def differences(self, columns: Columns, baseline: Columns, num_resamples: int, seed: int) -> Scores:
        """Means of the differences on the same pictures: paired."""
        gaps = {key: columns[key] - baseline[key] for key in self.metrics}
        return self.scores(gaps, num_resamples, seed)

    def section(self, ids: Sequence[str], columns: Columns) -> Result | None:
        """A table of its own beside the other metrics, where it has one."""
        return None

    def identity(self, networks: Networks) -> str:
        """What its values depend on besides the pictures."""
        return ", ".join(self.metrics)


class PSNR(Measure):
    """Per picture on uint8 levels, then the mean in dB: not the PSNR of the mean error, which is lower."""

    name = "psnr"
    metrics: Mapping[str, Metric] = {"psnr": Metric("PSNR", "higher", "dB")}

    def columns(self, batch: Batch, drawn: Float[Tensor, "b 3 h w"], networks: Networks) -> Columns:
        return {"psnr": psnr(drawn, batch.originals)}


class SSIM(Measure):
    """With a named window; the two customs differ by .1 and more."""

    def __init__(self, window: Window) -> None:
        self.window, self.name, self.key = window, f"ssim-{window.name}", f"ssim_{window.name}"
        self.metrics: Mapping[str, Metric] = {self.key: Metric(f"SSIM-{window.name}", "higher")}

    def columns(self, batch: Batch, drawn: Float[Tensor, "b 3 h w"], networks: Networks) -> Columns:
        return {self.key: ssim(drawn, batch.originals, self.window)}


class Perceptual(Measure):
    """LPIPS with its backbone in the name (alex is about half of vgg), or the LPIPS form on a net of our own."""

    def __init__(self, name: str) -> None:
        kind, net = name.split("-")
        self.name, self.key = name, f"{kind}_{net}"
        self.metrics: Mapping[str, Metric] = {self.key: Metric(f"{kind.upper()}-{net}", "lower")}

    @torch.no_grad()
    def columns(self, batch: Batch, drawn: Float[Tensor, "b 3 h w"], networks: Networks) -> Columns:
        net = networks[self.name]
        truth = batch.once(self.name, lambda: net.embed(batch.originals.to(networks.device)))
        return {self.key: net.distance(net.embed(drawn.to(networks.device)), truth).double().cpu()}

    def identity(self, networks: Networks) -> str:
        return str(networks[self.name].identity)


class ClipScore(Measure):
    """100 times the cosine of picture and prompt in one CLIP's space, not below zero; the model is in the name."""

    pairs, prompts = False, True

    def __init__(self, name: str, net: str, model: str) -> None:
        self.name, self.net, self.key = name, net, name.replace("-", "_")
        self.metrics: Mapping[str, Metric] = {self.key: Metric(f"CLIPScore-{model}", "higher")}

    def columns(self, batch: Batch, drawn: Float[Tensor, "b 3 h w"], networks: Networks) -> Columns:
        if batch.prompts is None:
            raise ValueError(f"{self.name} needs the prompt of each picture; give --prompts FILE")
        net, prompts = networks[self.net], batch.prompts
        texts = batch.once(self.name, lambda: net.texts(prompts))
        return {self.key: clip_score(net.features(drawn.to(networks.device)), texts).cpu()}

    def identity(self, networks: Networks) -> str:
        return str(networks[self.net].identity)


def clip_score(images: Float[Tensor, "b d"], texts: Float[Tensor, "b d"]) -> Float[Tensor, "b"]:
    """100 · max(0, cos) of each pair (Hessel et al., 2021, with weight 1 as papers on generation report it).

    Per picture, so that intervals can be drawn; torchmetrics clamps the mean instead, which differs only where a cosine
    is negative.
    """
    return 100 * F.cosine_similarity(images.double(), texts.double(), dim=-1).clamp(min=0)


class Sharpness(Measure):
    """Gradient energy of all drawn pictures over the originals': a ratio of means, so plain ones weigh little."""

    name = "sharpness"
    metric = Metric("sharpness", "one")

    def columns(self, batch: Batch, drawn: Float[Tensor, "b 3 h w"], networks: Networks) -> Columns:
        true = batch.once(self.name, lambda: gradient_energy(batch.originals))
        return {"energy": gradient_energy(drawn), "true_energy": true}

    def scores(self, columns: Columns, num_resamples: int, seed: int) -> Scores:
        """The ratio; none where an original has no gradient at all."""
        return {"sharpness": self._measured([columns], lambda ratios: ratios[0], num_resamples, seed)}

    def differences(self, columns: Columns, baseline: Columns, num_resamples: int, seed: int) -> Scores:
        """The difference of the ratios on the same resamples."""
        both = [columns, baseline]
        return {"sharpness": self._measured(both, lambda ratios: ratios[0] - ratios[1], num_resamples, seed)}

    def identity(self, networks: Networks) -> str:
        return self.name

    def _measured(
        self, sides: Sequence[Columns], number: Callable[[list[float]], float], num_resamples: int, seed: int
    ) -> Result:
        drawn, true = [side["energy"].numpy() for side in sides], sides[0]["true_energy"].numpy()
        if not true.all():
            return measured(self.metric, None, reason="an original without any gradient has no sharpness")

        def statistic(rows: NDArray[np.intp]) -> float:
            return number([float(energy[rows].mean() / true[rows].mean()) for energy in drawn])

        bounds = interval_of(statistic, len(true), num_resamples=num_resamples, seed=seed)
        return measured(self.metric, statistic(np.arange(len(true))), bounds)
