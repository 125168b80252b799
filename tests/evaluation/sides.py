"""What the tests of whole evaluations share: a tiny net, pictures in memory as sides, and one short way to a result."""

from __future__ import annotations

import numpy as np
import torch

from detokenizers.evaluation import metrics
from detokenizers.evaluation.distances import How
from detokenizers.evaluation.networks import Networks
from detokenizers.evaluation.one_pass import TRUTH, Pass
from detokenizers.evaluation.reporting import numbers_of
from detokenizers.evaluation.rules import rules_of
from detokenizers.evaluation.shards import merge


class TinyNet(torch.nn.Module):
    """Stands in for WorldNet: features, activations and answers of an untrained net."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.conv = torch.nn.Conv2d(3, 12, 5, stride=4)

    def activations(self, images):
        return [self.conv(images)]

    def features(self, images):
        return self.conv(images).relu().mean((2, 3))

    def forward(self, images):
        flat = self.features(images)
        return {
            "counts": flat[:, :10].view(-1, 2, 5),
            "colours": flat[:, :4].view(-1, 2, 2),
            "background": flat[:, :2],
        }


class Memory:
    """A side whose pictures lie in memory; ids in `broken` cannot be read."""

    def __init__(self, pictures, broken=()):
        self.pictures, self.broken, self.reads = pictures, broken, 0

    def read(self, id):
        self.reads += 1
        if id in self.broken:
            raise ValueError(f"{id}.png cannot be read (truncated); was its download or copy cut off?")
        return self.pictures[id]

    def stamp(self, id):
        return str(self.pictures[id].sum())


def numbered(pictures):
    return {f"image-{index:02d}": picture for index, picture in enumerate(pictures)}


def originals(n=24, side=20):
    return np.random.default_rng(0).integers(0, 256, (n, side, side, 3), np.uint8)


def blurred(pictures):
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float()
    x = torch.nn.functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
    return x.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def noisy(pictures):
    noise = np.random.default_rng(1).normal(0, 25, pictures.shape)
    return (pictures + noise).round().clip(0, 255).astype(np.uint8)


def sides(pictures=None):
    """Originals with a blurred, a noisy and a faithful copy."""
    pictures = originals() if pictures is None else pictures
    made = {TRUTH: pictures, "blurred": blurred(pictures), "noisy": noisy(pictures), "same": pictures}
    return {name: Memory(numbered(some)) for name, some in made.items()}


def networks(seed=0):
    return Networks(world=lambda: TinyNet(seed))


def plan(some, names=("psnr", "ssim", "pd-world", "sharpness", "fd-world"), nets=None, **more):
    """A pass over these sides, and the metrics chosen."""
    chosen = metrics.chosen(names, extractor="world", judge=more.pop("judge", None))
    ids = more.pop("ids", list(next(iter(some.values())).pictures))
    settings = {"keep_rows": True, "shard_size": 64} | more
    return Pass(ids, some, nets or networks(), chosen.extractors, chosen.measures, **settings), chosen


def how(paired=True, **more):
    return How(rules_of("world"), paired, **{"num_resamples": 50, "frechet_resamples": 10, "kernel_subsets": 5} | more)


def scored(some, names=("psnr", "ssim", "pd-world", "sharpness", "fd-world"), order=None, **more):
    """Measure and report, in as many shards as `shard_size` makes, merged in any order."""
    rules = more.pop("how", how())
    work, chosen = plan(some, names, **more)
    shards = [work.shard(ids) for ids in work.chunks()]
    evidence = merge([shards[index] for index in order or range(len(shards))], keep_rows=work.keep_rows)
    real = {name: evidence.side(TRUTH, name) for name in chosen.extractors}
    return numbers_of(evidence, work.drawn, chosen, real, work.networks, rules, reference={"n": len(evidence.ids)})
