"""Scores of benchmarks whose unit is the prompt: several answers each, intervals over prompts.

Four pictures of one prompt are not four independent facts, so whole prompts are drawn in the resamples, task by task.
Where all prompts score the same, resampling has no spread, and no interval is given rather than one of width 0.

{task: {prompt: [answers in [0, 1]]}} -mean_of_answers, mean_of_tasks-> numbers with 95 % bootstrap intervals
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bootstrap import Interval, indices, percentiles
from .results import Metric, Result, measured

Answers = Mapping[str, Sequence[float]]
"""Per prompt, what its pictures scored."""
RESAMPLES = 1000
_STRIDE = 1_000_003  # tasks of one size are resampled independently of each other


def mean_of_answers(metric: Metric, answers: Answers, *, seed: int = 0) -> Result:
    """The mean over all answers; its interval draws prompts."""
    bounds = spread(resampled(answers, seed)) if len(answers) >= 2 else None
    return measured(metric, value_of(answers), bounds, n=sum(map(len, answers.values())), prompts=len(answers))


def mean_of_tasks(metric: Metric, tasks: Mapping[str, Answers], *, seed: int = 0) -> Result:
    """The plain mean of the tasks' means, as GenEval has it, whatever their sizes."""
    value = sum(value_of(answers) for answers in tasks.values()) / len(tasks)
    bounds = None
    if all(len(answers) >= 2 for answers in tasks.values()):
        columns = [resampled(answers, seed + row * _STRIDE) for row, answers in enumerate(tasks.values())]
        bounds = spread(np.mean(columns, 0))
    return measured(metric, value, bounds, tasks=len(tasks))


def compared(answers: Mapping[str, Any], score: Callable[[Any], Result], difference: Callable[..., Result]) -> Result:
    """What is reported of several decoders: the score of each, and its difference from the first one's."""
    (first, baseline), *others = answers.items()
    return {
        "decoders": {name: score(one) for name, one in answers.items()},
        "differences": {f"{name} - {first}": difference(one, baseline) for name, one in others},
    }


def spread(resamples: NDArray[np.float64]) -> Interval | None:
    """The interval of resampled values; none where they are all one."""
    return percentiles(resamples.tolist()) if np.ptp(resamples) > 1e-9 else None


def paired(ours: Mapping[str, Answers], baseline: Mapping[str, Answers]) -> dict[str, dict[str, list[float]]]:
    """Answer minus answer, for two decoders that drew the same prompts from the same tokens.

    Raises:
        ValueError: they did not draw the same.
    """
    shape, other = ({t: {p: len(a) for p, a in ps.items()} for t, ps in side.items()} for side in (ours, baseline))
    if shape != other:
        raise ValueError(
            "two sets of pictures are compared in pairs, but they do not hold the same prompts and samples"
        )
    return {
        task: {
            prompt: [float(a) - float(b) for a, b in zip(answers, baseline[task][prompt])]
            for prompt, answers in prompts.items()
        }
        for task, prompts in ours.items()
    }


def value_of(answers: Answers) -> float:
    """The mean over all answers."""
    values = [float(one) for several in answers.values() for one in several]
    return sum(values) / len(values)


def resampled(answers: Answers, seed: int) -> NDArray[np.float64]:
    """The mean over all answers of each resample of prompts."""
    sums = np.array([sum(several) for several in answers.values()], dtype=np.float64)
    counts = np.array([len(several) for several in answers.values()])
    return np.array([sums[rows].sum() / counts[rows].sum() for rows in indices(len(sums), RESAMPLES, seed)])
