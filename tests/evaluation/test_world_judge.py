"""The judge on answers we know: an oracle that reads the ground truth must be right about everything it can tell."""

from dataclasses import replace

import pytest
import torch

from detokenizers.data.world.objects import COLOURS
from detokenizers.data.world.scenes import caption, parse
from detokenizers.data.world.world import World, WorldConfig
from detokenizers.evaluation.world_judge import TASKS, Verdict, WorldJudge, agreement, task_of

WORLD = World(WorldConfig(nouns=24))
SIDE = 16


def answers(truths, where=True):
    """The logits of a perfect WorldNet."""

    def sure(index, classes):
        return 20 * torch.nn.functional.one_hot(torch.as_tensor(index).clamp(min=0), classes).float()

    labels = [WORLD.labels(truth) for truth in truths]
    logits = {
        "counts": torch.stack([sure(row["counts"], 5) for row in labels]),
        "colours": torch.stack([sure(row["colours"], len(COLOURS) + 1) for row in labels]),
        "background": torch.stack([sure(row["background"], len(WORLD.backgrounds)) for row in labels]),
    }
    if where:
        cells = [(torch.as_tensor(row["centres"]) * SIDE).long().clamp(0, SIDE - 1) for row in labels]
        logits["where"] = torch.stack([sure(cell[:, 1] * SIDE + cell[:, 0], SIDE**2) for cell in cells])
    return logits


def judge(shown, asked, where=True):
    """Verdicts when a perfect net looks at `shown`."""
    names = {"nouns": WORLD.nouns, "colours": (None, *COLOURS), "backgrounds": WORLD.backgrounds}
    return WorldJudge(lambda images: answers(shown, where), **names)(torch.zeros(len(shown), 3, 8, 8), asked)


@pytest.fixture(scope="module")
def truths():
    return [WORLD.truth(seed) for seed in range(250)]


def test_a_perfect_net_on_the_scenes_asked_for_is_always_right_in_all_six_tasks(truths):
    verdicts = judge(truths, truths)
    assert {verdict.task for verdict in verdicts} == set(TASKS)
    assert all(verdict.correct and verdict.background for verdict in verdicts)


def test_the_parsed_caption_asks_for_what_the_truth_holds(truths):
    assert judge(truths, [parse(caption(truth)) for truth in truths]) == judge(truths, truths)


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("a dog on grass", "a cat on grass"),
        ("a dog and a cat on grass", "a dog on grass"),
        ("three dogs on grass", "two dogs on grass"),
        ("a red car on grass", "a blue car on grass"),
        ("a red car and a blue fish on grass", "a blue car and a red fish on grass"),
    ],
)
def test_each_task_notices_its_own_mistake(asked, shown):
    (verdict,) = judge([parse(shown)], [parse(asked)], where=False)
    assert verdict.correct is False
    assert verdict.background is True


def test_the_wrong_side_is_a_wrong_position(truths):
    truths = [truth for truth in truths if truth.relation]
    opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    turned = [replace(truth, relation=opposite[truth.relation]) for truth in truths]
    assert not any(verdict.correct for verdict in judge(truths, turned))


def test_positions_are_left_out_when_the_net_does_not_see_them(truths):
    truths = [truth for truth in truths if truth.relation]
    verdicts = judge(truths, truths, where=False)
    assert {verdict.correct for verdict in verdicts} == {None}
    report = agreement(verdicts)
    assert report["not_judged"] == {"this judge does not see positions": len(truths)}
    assert report["score"] is None


def test_nouns_outside_the_vocabulary_are_left_out_and_counted():
    held_out = [WORLD.truth(seed, "held-out") for seed in range(3)]
    assert agreement(judge(held_out, held_out))["not_judged"] == {"noun outside the judge's vocabulary": 3}


def test_the_score_is_the_mean_over_tasks_not_over_images():
    verdicts = [Verdict("single", True, True)] * 30 + [Verdict("counting", False, None)] * 10
    report = agreement(verdicts)
    assert report["score"]["value"] == 0.5
    assert report["score"]["low"] < 0.5 < report["score"]["high"]
    assert report["tasks"]["counting"]["n"] == 10
    assert report["background"]["n"] == 30


def test_a_wrong_background_is_told_apart_from_a_wrong_object():
    (verdict,) = judge([parse("a dog on grass")], [parse("a dog on a wooden table")])
    assert verdict.correct
    assert verdict.background is False


def test_tasks_follow_from_what_is_said():
    said = ["a dog on grass", "two dogs on grass", "a dog and a cat on grass", "a dog left of a cat on grass"]
    assert [task_of(parse(text)) for text in said] == ["single", "counting", "two objects", "position"]


def test_a_net_of_another_vocabulary_is_refused():
    judge = WorldJudge(lambda images: answers([parse("a dog on grass")]), nouns=["dog"], colours=[None], backgrounds=[])
    with pytest.raises(ValueError, match="were net and vocabulary made together"):
        judge(torch.zeros(1, 3, 8, 8), [parse("a dog on grass")])
