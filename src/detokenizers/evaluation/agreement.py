"""Prompt agreement as one of the measures: the judge of the embedded world decides about each picture, and its verdicts
are kept as numbers by id.

A verdict is three columns: right (1, 0, or nothing where the judge cannot decide), the background likewise, and which
reason keeps the judge from deciding. The task is what the caption asks for, whatever the picture.

drawn, captions -WorldJudge-> columns -agreement-> accuracy per task with Wilson intervals; differences in pairs
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ..data.world.scenes import Truth
from .bootstrap import interval
from .measures import Batch, Columns, Measure, Scores
from .networks import Networks
from .results import Metric, Result, measured
from .world_judge import REASONS, Verdict, WorldJudge, agreement, task_of


class Agreement(Measure):
    """GenEval's six tasks on the embedded world.

    Args:
        judge: makes the judge when the first picture comes.
        asked: what the caption of each id asks for.
        identity: names the judge's weights.
    """

    name = "agreement"
    pairs = False

    def __init__(self, judge: Callable[[], WorldJudge], asked: Mapping[str, Truth], identity: str) -> None:
        self.make, self.asked, self.weights = judge, asked, identity
        self.judge: WorldJudge | None = None

    def columns(self, batch: Batch, drawn: Float[Tensor, "b 3 h w"], networks: Networks) -> Columns:
        self.judge = self.judge or self.make()
        verdicts = self.judge(drawn, [self.asked_of(id) for id in batch.ids])
        return {
            "agreement": numbers([verdict.correct for verdict in verdicts]),
            "background": numbers([verdict.background for verdict in verdicts]),
            "not_judged": numbers([REASONS.index(verdict.reason) + 1 if verdict.reason else 0 for verdict in verdicts]),
        }

    def section(self, ids: Sequence[str], columns: Columns) -> Result:
        """Accuracy per task, their mean, background, and what could not be judged."""
        rows = zip(ids, *(columns[key].tolist() for key in ("agreement", "background", "not_judged")))
        return agreement(
            [
                Verdict(task_of(self.asked_of(id)), truth(right), truth(ground), REASONS[int(why) - 1] if why else None)
                for id, right, ground, why in rows
            ]
        )

    def differences(self, columns: Columns, baseline: Columns, num_resamples: int, seed: int) -> Scores:
        """Paired, over the pictures that could be judged on both sides."""
        gaps = columns["agreement"] - baseline["agreement"]
        gaps = gaps[gaps.isfinite()]
        if len(gaps) < 2:
            return {}
        bounds = interval(gaps, num_resamples=num_resamples, seed=seed)
        return {"agreement": measured(Metric("agreement", "higher"), gaps.mean().item(), bounds, n=len(gaps))}

    def identity(self, networks: Networks) -> str:
        captions = hashlib.sha256(repr(sorted(self.asked.items())).encode()).hexdigest()
        return f"{self.weights}, captions {captions[:12]}"

    def asked_of(self, id: str) -> Truth:
        """What one image should show; it is an error where no caption is known."""
        if id not in self.asked:
            raise ValueError(
                f"there is no caption for the image {id!r}; every image needs one in the grammar of the world"
            )
        return self.asked[id]


def numbers(values: Sequence[float | bool | None]) -> Float[Tensor, "n"]:
    return torch.tensor([math.nan if value is None else float(value) for value in values], dtype=torch.float64)


def truth(number: float) -> bool | None:
    return None if math.isnan(number) else bool(number)
