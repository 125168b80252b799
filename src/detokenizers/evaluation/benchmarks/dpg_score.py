"""From yes and no to the DPG score, and to its categories.

A question counts as yes when it and everything it depends on, near and far, are answered yes. The score is the mean
over questions, over the four pictures, over items, in percent. `official_score` is what the published script computes
instead: zeroing in file order, categories from the last picture alone and before zeroing, items dropped on a KeyError.

{item: [[yes? per question] per picture]} -score | official_score-> {"metrics", "broad", "detailed", ...}
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from ..prompt_scores import mean_of_answers, paired
from ..results import Metric, Result
from .dpg_questions import DPGItem, Question

SCORE, RAW = Metric("DPG", "higher", "%"), Metric("without zeroing", "higher", "%")
PictureAnswers = Sequence[Sequence[bool]]
"""Per picture, yes or no to each question in the item's order."""
PerItem = dict[str, list[float]]
"""Per item, numbers in percent."""


def score(items: Sequence[DPGItem], answers: Mapping[str, PictureAnswers], *, seed: int = 0) -> Result:
    """The score and both kinds of categories, each zeroed by dependency and raw, with intervals over items."""
    zero = {item.id: [zeroed(item, one) for one in answers[item.id]] for item in items}
    raw = {item.id: [[float(yes) for yes in one] for one in answers[item.id]] for item in items}
    return {
        "metrics": {
            "score": mean_of_answers(SCORE, pictures(zero), seed=seed),
            "raw": mean_of_answers(RAW, pictures(raw), seed=seed),
        },
        "broad": categories(items, zero, raw, lambda question: question.broad, seed),
        "detailed": categories(items, zero, raw, lambda question: f"{question.broad} - {question.detailed}", seed),
    }


def difference(
    items: Sequence[DPGItem],
    ours: Mapping[str, PictureAnswers],
    baseline: Mapping[str, PictureAnswers],
    *,
    seed: int = 0,
) -> Result:
    """The score minus the baseline's, item by item."""
    sides = [
        {"": pictures({i.id: [zeroed(i, one) for one in answers[i.id]] for i in items})} for answers in (ours, baseline)
    ]
    return {"metrics": {"score": mean_of_answers(SCORE, paired(*sides)[""], seed=seed)}}


def zeroed(item: DPGItem, answers: Sequence[bool]) -> list[float]:
    """1 where a question and all its ancestors are answered yes; whatever the order of the rows.

    A parent that the item does not have cannot be answered no (`dpg_questions.missing_parents` lists them).
    """
    if len(answers) != len(item.questions):
        raise ValueError(f"item {item.id} has {len(item.questions)} questions, got {len(answers)} answers")
    yes = dict(zip((question.id for question in item.questions), answers))
    parents = {question.id: question.parents for question in item.questions}

    def holds(id: int, above: frozenset[int]) -> bool:
        rest = [parent for parent in parents.get(id, ()) if parent not in above]
        return yes.get(id, True) and all(holds(parent, above | {parent}) for parent in rest)

    return [float(holds(question.id, frozenset({question.id}))) for question in item.questions]


def pictures(answers: Mapping[str, Sequence[Sequence[float]]]) -> PerItem:
    """Per item, the share of yes on each of its pictures."""
    return {id: [100 * sum(one) / len(one) for one in several] for id, several in answers.items()}


def categories(
    items: Sequence[DPGItem],
    zero: Mapping[str, Sequence[Sequence[float]]],
    raw: Mapping[str, Sequence[Sequence[float]]],
    name_of: Callable[[Question], str],
    seed: int,
) -> dict[str, Result]:
    """Per category the mean over all its questions and all pictures, zeroed and raw."""
    found: dict[str, tuple[PerItem, PerItem]] = defaultdict(lambda: ({}, {}))
    for item in items:
        for row, question in enumerate(item.questions):
            for side, answers in zip(found[name_of(question)], (zero, raw)):
                side.setdefault(item.id, []).extend(100 * one[row] for one in answers[item.id])
    return {
        name: {"score": mean_of_answers(SCORE, sides[0], seed=seed), "raw": mean_of_answers(RAW, sides[1], seed=seed)}
        for name, sides in sorted(found.items())
    }


def official_score(items: Sequence[DPGItem], answers: Mapping[str, PictureAnswers], *, seed: int = 0) -> Result:
    """What `compute_dpg_bench.py` prints, run on one process; read the items with `official_quirks` for it.

    `skipped` lists the items its `except` drops: those where zeroing looks up a question that is not there.
    """
    scores: PerItem = {}
    broad: dict[str, PerItem] = defaultdict(dict)
    detailed: dict[str, PerItem] = defaultdict(dict)
    skipped = []
    for item in items:
        try:
            scores[item.id] = [100 * officially(item, one) for one in answers[item.id]]
        except KeyError:
            skipped.append(item.id)
            continue
        for question, yes in zip(item.questions, answers[item.id][-1]):
            kind = question.tuple.split("(")[0].strip()
            detailed[kind].setdefault(item.id, []).append(100.0 * yes)
            broad[kind.split("-")[0].strip()].setdefault(item.id, []).append(100.0 * yes)
    if not scores:
        raise ValueError("the official script would skip every item: each depends on a question that is not there")
    return {
        "metrics": {"score": mean_of_answers(SCORE, scores, seed=seed)},
        "broad": {name: {"raw": mean_of_answers(RAW, answers, seed=seed)} for name, answers in sorted(broad.items())},
        "detailed": {
            name: {"raw": mean_of_answers(RAW, answers, seed=seed)} for name, answers in sorted(detailed.items())
        },
        "skipped": skipped,
    }


def officially(item: DPGItem, answers: Sequence[bool]) -> float:
    """The mean over questions, zeroed in place and in the file's order: a child before its parent escapes.

    Raises:
        KeyError: a parent is not there, and no parent before it was answered no.
    """
    scores = {question.id: float(yes) for question, yes in zip(item.questions, answers, strict=True)}
    for question in item.questions:
        if any(scores[parent] == 0 for parent in question.parents):
            scores[question.id] = 0.0
    return sum(scores.values()) / len(scores)
