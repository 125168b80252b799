"""From verdicts to GenEval's score: six accuracies over pictures, and their mean.

{task: {prompt: [right?]}} -score-> {"metrics": {"score", task..., "images_correct", "prompts_correct"}}
"""

from __future__ import annotations

from collections.abc import Mapping

from ...prompt_scores import Answers, mean_of_tasks, paired, pooled
from ...results import Metric, Result
from .prompts import TASKS

TAG = "geneval-hf"
"""This judge's name; a number by mmdet's judge is called `geneval`."""


def score(tasks: Mapping[str, Answers], *, seed: int = 0) -> Result:
    """The overall score, the tasks in the paper's order, and the shares of right pictures and of prompts with any.

    Args:
        tasks: for every task and prompt id, whether each picture is right.
    """
    everything = {f"{tag}/{name}": answers for tag, names in tasks.items() for name, answers in names.items()}
    best = {name: [max(answers)] for name, answers in everything.items()}
    return {
        "metrics": {
            **by_task(tasks, seed=seed),
            "images_correct": pooled(Metric("images right", "higher"), everything, seed=seed),
            "prompts_correct": pooled(Metric("prompts with any right", "higher"), best, seed=seed),
        }
    }


def difference(ours: Mapping[str, Answers], baseline: Mapping[str, Answers], *, seed: int = 0) -> Result:
    """The same minus the baseline's, on the same prompts and samples, with intervals of the difference."""
    return {"metrics": by_task(paired(ours, baseline), seed=seed)}


def by_task(tasks: Mapping[str, Answers], *, seed: int = 0) -> dict[str, Result]:
    """The mean of the tasks, and each."""
    ordered = {tag: tasks[tag] for tag in TASKS if tag in tasks}
    overall = mean_of_tasks(Metric("overall", "higher"), ordered, seed=seed)
    return {"score": overall} | {
        tag: pooled(Metric(tag, "higher"), answers, seed=seed) for tag, answers in ordered.items()
    }
