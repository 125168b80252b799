"""Numbers of single pictures: a measure turns a batch into columns of one value per picture, and columns into scores.

Columns are what shards keep, by id, so means, intervals and paired differences are made at the very end and do not care
who measured what. Variants are parts: `SSIM(window)`, `Lpips(backbone)`, `Perceptual(net)`.

Batch(ids, originals, prompts), drawn [b 3 h w] -columns-> {key: [b]} -scores, differences-> results with intervals
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from .bootstrap import interval_of
from .clip_score import clip_score
from .networks import Networks
from .pairwise import PerceptualDistance, Window, gradient_energy, psnr, ssim
from .results import Metric, Result, mean_of, measured

Columns = dict[str, Float[Tensor, "n"]]
"""One value per picture under each key."""
Scores = dict[str, Result]


@dataclass
class Batch:
    """Pictures that are looked at together, with what several decoders share of them."""

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


class Measure(Protocol):
    """One metric of single pictures."""

    name: str
    pairs: bool
    """Whether it compares with an original."""
    prompts: bool
    """Whether it reads what the picture should show."""

    def columns(self, batch: Batch, drawn: Float[Tensor, "b 3 h w"], networks: Networks) -> Columns: ...
    def scores(self, columns: Columns, num_resamples: int, seed: int) -> Scores: ...
    def differences(self, columns: Columns, baseline: Columns, num_resamples: int, seed: int) -> Scores: ...
    def identity(self, networks: Networks) -> str: ...


class MeanOverPictures:
    """What measures share whose number is the mean of a column."""

    metrics: Mapping[str, Metric]
    pairs = True
    prompts = False

    def scores(self, columns: Columns, num_resamples: int, seed: int) -> Scores:
        """Means with their intervals."""
        return {key: mean_of(metric, columns[key], num_resamples, seed) for key, metric in self.metrics.items()}

    def differences(self, columns: Columns, baseline: Columns, num_resamples: int, seed: int) -> Scores:
        """Means of the differences on the same pictures: paired."""
        gaps = {key: columns[key] - baseline[key] for key in self.metrics}
        return self.scores(gaps, num_resamples, seed)

    def identity(self, networks: Networks) -> str:
        """What its values depend on besides the pictures."""
        return ", ".join(self.metrics)


class PSNR(MeanOverPictures):
    """Per picture on uint8 levels, then the mean in dB: not the PSNR of the mean error, which is lower."""

    name = "psnr"
    metrics: Mapping[str, Metric] = {"psnr": Metric("PSNR", "higher", "dB")}

    def columns(self, batch: Batch, drawn: Float[Tensor, "b 3 h w"], networks: Networks) -> Columns:
        return {"psnr": psnr(drawn, batch.originals)}


class SSIM(MeanOverPictures):
    """With a named window; the two customs differ by .1 and more."""

    def __init__(self, window: Window) -> None:
        self.window, self.name = window, f"ssim-{window.name}"
        self.metrics: Mapping[str, Metric] = {f"ssim_{window.name}": Metric(f"SSIM-{window.name}", "higher")}

    def columns(self, batch: Batch, drawn: Float[Tensor, "b 3 h w"], networks: Networks) -> Columns:
        return {f"ssim_{self.window.name}": ssim(drawn, batch.originals, self.window)}


class Perceptual(MeanOverPictures):
    """The LPIPS form on a named net of our own, all channels weighing the same."""

    def __init__(self, net: str) -> None:
        self.net, self.name = net, f"pd-{net}"
        self.metrics: Mapping[str, Metric] = {f"pd_{net}": Metric(f"PD-{net}", "lower")}

    def columns(self, batch: Batch, drawn: Float[Tensor, "b 3 h w"], networks: Networks) -> Columns:
        distance = PerceptualDistance(networks[self.net], self.net)
        truth = batch.once(self.name, lambda: distance.embed(batch.originals))
        return {f"pd_{self.net}": distance.between(distance.embed(drawn), truth).cpu()}

    def identity(self, networks: Networks) -> str:
        return networks.extractor(self.net).identity


class Lpips(MeanOverPictures):
    """LPIPS with its backbone in the name: alex is about half of vgg."""

    def __init__(self, backbone: str) -> None:
        self.name, self.key = f"lpips-{backbone}", f"lpips_{backbone}"
        self.metrics: Mapping[str, Metric] = {self.key: Metric(f"LPIPS-{backbone}", "lower")}

    def columns(self, batch: Batch, drawn: Float[Tensor, "b 3 h w"], networks: Networks) -> Columns:
        net = networks[self.name]
        with torch.no_grad():
            truth = batch.once(self.name, lambda: net.embed(batch.originals.to(networks.device)))
            return {self.key: net.distance(net.embed(drawn.to(networks.device)), truth).double().cpu()}

    def identity(self, networks: Networks) -> str:
        return str(networks[self.name].identity)


class ClipScore(MeanOverPictures):
    """100 times the cosine of picture and prompt in one CLIP's space, not below zero; the model is in the name."""

    pairs, prompts = False, True

    def __init__(self, name: str, net: str, model: str) -> None:
        self.name, self.net, self.key = name, net, name.replace("-", "_")
        self.metrics: Mapping[str, Metric] = {self.key: Metric(f"CLIPScore-{model}", "higher")}

    def columns(self, batch: Batch, drawn: Float[Tensor, "b 3 h w"], networks: Networks) -> Columns:
        if batch.prompts is None:
            raise ValueError(f"{self.name} needs to know what each picture should show; give --prompts FILE")
        net, prompts = networks[self.net], batch.prompts
        texts = batch.once(self.name, lambda: net.texts(prompts))
        return {self.key: clip_score(net.features(drawn.to(networks.device)), texts).cpu()}

    def identity(self, networks: Networks) -> str:
        return str(networks[self.net].identity)


class Sharpness:
    """Gradient energy of all drawn pictures over the originals': a ratio of means, so plain ones weigh little."""

    name = "sharpness"
    metric = Metric("sharpness", "one")
    pairs, prompts = True, False

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
