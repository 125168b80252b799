"""GenEval's rules on boxes drawn by hand: every verdict and every score is known beforehand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from detokenizers.evaluation.benchmarks.geneval import difference, score
from detokenizers.evaluation.benchmarks.geneval_colours import ColourJudge, crop
from detokenizers.evaluation.benchmarks.geneval_prompts import CLASSES, TASKS, Wanted, ask, read_asks
from detokenizers.evaluation.benchmarks.geneval_rules import MAX_OBJECTS, Detection, judge, kept, relations

DOG, CAT, APPLE = (CLASSES.index(name) for name in ("dog", "cat", "apple"))
LEFT, RIGHT, BELOW = (0.0, 40.0, 20.0, 60.0), (80.0, 40.0, 100.0, 60.0), (0.0, 80.0, 20.0, 100.0)


def line(tag, *include, exclude=None, prompt="a photo of something"):
    record = {"tag": tag, "include": list(include), "prompt": prompt}
    return json.dumps(record | ({"exclude": exclude} if exclude else {}))


def wanted(name, count=1, **more):
    return {"class": name, "count": count, **more}


def found(*detections, counting=False):
    return kept([Detection(kind, score, box) for kind, score, box in detections], counting=counting)


def verdict(text, objects_found, colours=()):
    """Judge with a classifier that says these colours in turn."""
    said = iter(colours)
    return judge(ask(text, "here"), objects_found, lambda some, name: [next(said) for _ in some])


def official(counts=TASKS):
    """A file with the official number of prompts per task."""
    return "".join(line(tag, wanted("dog")) + "\n" for tag, number in counts.items() for _ in range(number))


def test_classes_are_cocos_in_order_with_genevals_three_names():
    assert len(CLASSES) == len(set(CLASSES)) == 80
    assert [CLASSES[index] for index in (0, 16, 64, 65, 66, 79)] == [
        "person", "dog", "computer mouse", "tv remote", "computer keyboard", "toothbrush",
    ]  # fmt: skip


def test_a_single_object_is_right_when_it_is_found_and_sure_enough():
    text = line("single_object", wanted("dog"))
    assert verdict(text, found((DOG, 0.31, LEFT))).correct
    assert not verdict(text, found((DOG, 0.3, LEFT))).correct
    assert verdict(text, found((CAT, 0.9, LEFT))).reasons == ("expected dog >= 1, found 0",)


@pytest.mark.parametrize(("threshold", "counting"), [(0.3, False), (0.9, True)])
def test_a_score_of_exactly_the_threshold_in_fp32_does_not_count(threshold, counting):
    exactly = np.float32(threshold)
    above = float(np.nextafter(exactly, np.float32(1)))
    assert not found((DOG, float(exactly), LEFT), counting=counting)
    assert found((DOG, above, LEFT), counting=counting)


def test_of_equal_scores_the_later_detection_comes_first():
    three = np.array([0.5, 0.7, 0.5], np.float32)
    order = np.argsort(three, kind="stable")[::-1]
    several = found(*[(DOG, float(score), (float(place), 0.0, 20.0, 20.0)) for place, score in enumerate(three)])
    assert [one.box[0] for one in several["dog"]] == order.tolist() == [1, 2, 0]


def test_two_objects_need_both():
    text = line("two_object", wanted("dog"), wanted("cat"))
    assert verdict(text, found((DOG, 0.5, LEFT), (CAT, 0.5, RIGHT))).correct
    assert not verdict(text, found((DOG, 0.5, LEFT), (DOG, 0.5, RIGHT))).correct


@pytest.mark.parametrize(("number", "right"), [(1, False), (2, True), (3, False)])
def test_counting_excludes_one_more_and_asks_for_surer_objects(number, right):
    text = line("counting", wanted("dog", 2), exclude=[wanted("dog", 3)])
    several = [(DOG, 0.95, LEFT)] * number
    ghosts = [(DOG, 0.9, RIGHT)] * 5
    assert verdict(text, found(*several, *ghosts, counting=True)).correct is right


def test_no_more_than_sixteen_objects_of_a_class_are_kept():
    many = found(*[(DOG, 0.5 + place / 100, LEFT) for place in range(20)])["dog"]
    assert len(many) == MAX_OBJECTS == 16
    assert [round(one.score, 2) for one in many[:2]] == [0.69, 0.68]


def test_overlapping_boxes_stay():
    assert len(found((DOG, 0.9, LEFT), (DOG, 0.8, LEFT))["dog"]) == 2


def test_colours_are_asked_of_the_surest_objects_only():
    text = line("colors", wanted("apple", color="red"))
    two = found((APPLE, 0.5, LEFT), (APPLE, 0.9, RIGHT))
    asked = []
    assert judge(ask(text, ""), two, lambda some, name: asked.extend(some) or ["red"]).correct
    assert [one.score for one in asked] == [0.9]
    assert verdict(text, two, ["green"]).reasons == ("expected red apple >= 1, found green",)


def test_each_of_two_objects_needs_its_own_colour():
    text = line("color_attr", wanted("dog", color="red"), wanted("cat", color="blue"))
    both = found((DOG, 0.5, LEFT), (CAT, 0.5, RIGHT))
    assert verdict(text, both, ["red", "blue"]).correct
    assert not verdict(text, both, ["blue", "red"]).correct


@pytest.mark.parametrize(
    ("first", "sides"),
    [
        (LEFT, {"left of"}),
        (BELOW, {"left of"}),  # 80 px to the left, 40 below
        ((40.0, 80.0, 60.0, 100.0), {"left of", "below"}),
        ((80.0, 0.0, 100.0, 20.0), {"above"}),
        ((82.0, 42.0, 102.0, 62.0), set()),  # shifted by less than a tenth of both sizes: 4 px of 20 + 20
        ((84.0, 40.0, 104.0, 60.0), set()),  # exactly a tenth
        ((90.0, 40.0, 110.0, 60.0), {"right of"}),
        ((86.0, 40.0, 106.0, 60.0), set()),  # 6 px, of which 2 remain: a third, not more than half
    ],
)
def test_sides_hold_when_more_than_half_of_the_offset_remains(first, sides):
    assert relations(first, RIGHT) == sides


def test_positions_are_relative_to_an_earlier_clause_that_held():
    text = line("position", wanted("cat"), wanted("dog", position=["left of", 0]))
    assert verdict(text, found((DOG, 0.5, LEFT), (CAT, 0.5, RIGHT))).correct
    assert not verdict(text, found((DOG, 0.5, RIGHT), (CAT, 0.5, LEFT))).correct
    assert verdict(text, found((DOG, 0.5, LEFT))).reasons[1] == "no target for dog to be left of"


def test_every_wanted_object_must_lie_on_its_side_of_every_target():
    text = line("position", wanted("cat"), wanted("dog", 2, position=["left of", 0]))
    middle = (85.0, 40.0, 105.0, 60.0)
    assert verdict(text, found((DOG, 0.9, LEFT), (DOG, 0.8, LEFT), (CAT, 0.9, RIGHT))).correct
    assert not verdict(text, found((DOG, 0.9, LEFT), (DOG, 0.8, middle), (CAT, 0.9, RIGHT))).correct


def test_an_unknown_class_from_the_detector_is_refused():
    with pytest.raises(ValueError, match="class 80"):
        kept([Detection(80, 0.9, LEFT)])


def test_the_score_is_the_mean_of_six_accuracies_and_prompts_count_once():
    tasks = {
        "single_object": {"0": [1, 1, 1, 1], "1": [1, 1, 0, 0]},  # 6/8
        "two_object": {"2": [1, 0, 0, 0], "3": [0, 0, 0, 0]},  # 1/8
        "counting": {"4": [0, 0, 0, 0], "5": [0, 0, 0, 0]},
        "colors": {"6": [1, 1, 1, 1], "7": [1, 1, 1, 1]},
        "position": {"8": [1, 0, 1, 0], "9": [0, 1, 0, 1]},  # 4/8
        "color_attr": {"10": [0, 0, 0, 1], "11": [0, 0, 0, 0], "12": [1, 1, 1, 1]},  # 5/12
    }
    metrics = score(tasks)["metrics"]
    expected = [6 / 8, 1 / 8, 0, 1, 4 / 8, 5 / 12]
    assert [metrics[tag]["value"] for tag in TASKS] == pytest.approx(expected)
    assert metrics["score"]["value"] == pytest.approx(sum(expected) / 6)
    assert metrics["images_correct"]["value"] == pytest.approx(24 / 52)
    assert metrics["prompts_correct"]["value"] == pytest.approx(9 / 13)
    assert metrics["single_object"]["low"] == 0.5
    assert metrics["single_object"]["high"] == 1.0
    assert (metrics["colors"]["low"], metrics["counting"]["high"]) == (None, None)  # all alike: no width of 0
    assert metrics["score"]["low"] < metrics["score"]["value"] < metrics["score"]["high"]
    assert (metrics["position"]["prompts"], metrics["position"]["n"]) == (2, 8)


def test_a_difference_is_paired_by_prompt_and_sample():
    ours, base = {"counting": {"0": [1, 1], "1": [1, 0]}}, {"counting": {"0": [0, 0], "1": [0, 0]}}
    metrics = difference(ours, base)["metrics"]
    assert metrics["score"]["value"] == metrics["counting"]["value"] == 0.75
    assert (metrics["counting"]["low"], metrics["counting"]["high"]) == (0.5, 1.0)
    with pytest.raises(ValueError, match="same prompts"):
        difference(ours, {"counting": {"0": [0, 0]}})


def test_the_official_file_is_read_whole(tmp_path):
    path = tmp_path / "evaluation_metadata.jsonl"
    path.write_text(official())
    asks = read_asks(path)
    assert len(asks) == 553
    assert asks[0].include == (Wanted("dog", 1),)
    assert asks[0].record == json.loads(path.read_text().splitlines()[0])


@pytest.mark.parametrize(
    ("text", "clue"),
    [
        ("a photo of a dog\n", "this is not JSON"),
        ('{"prompt": "a dog"}\n', '"tag", "include", "prompt"'),
        (line("singel", wanted("dog")), "no task 'singel'"),
        (line("colors"), "`include` is empty"),
        (line("colors", wanted("unicorn")), "no class 'unicorn'"),
        (line("colors", wanted("dog", 0)), "count of 'dog' is 0"),
        (line("colors", wanted("dog", color="mauve")), "no colour 'mauve'"),
        (line("position", wanted("dog", position=["inside", 0])), "a position is"),
        (line("position", wanted("dog", position=["left of", 0])), "no earlier clause"),
        (line("colors", wanted("dog"), prompt=" "), "not a text"),
        (line("colors", wanted("dog")), "single_object 0 of 80"),
        ("", "no GenEval prompts"),
    ],
)
def test_what_is_not_the_official_file_is_refused_in_one_line(tmp_path, text, clue):
    path = tmp_path / "file.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError) as error:
        read_asks(path)
    assert clue in str(error.value)
    assert "\n" not in str(error.value)


def test_part_of_the_benchmark_is_read_when_asked_for(tmp_path):
    (tmp_path / "some.jsonl").write_text(line("colors", wanted("dog", color="red")) + "\n")
    assert [one.tag for one in read_asks(tmp_path / "some.jsonl", partial=True)] == ["colors"]


def test_the_classifier_sees_the_masked_object_on_grey_within_its_box():
    picture = np.full((10, 8, 3), 255, np.uint8)
    mask = np.zeros((10, 8), bool)
    mask[2:5, 1:4] = True
    mask[2, 1] = False
    seen = crop(picture, Detection(DOG, 1.0, (1.0, 2.0, 4.0, 5.0), mask))
    assert seen.shape == (1, 3, 3, 3)
    assert seen[0, 0, 0, 0].item() == pytest.approx(0x99 / 127.5 - 1)
    assert (seen[0, :, 1:] == 1).all()
    with pytest.raises(ValueError, match="does not lie within"):
        crop(picture, Detection(DOG, 1.0, (1.0, 2.0, 9.0, 5.0), mask))


def test_the_nearest_colour_wins_and_each_name_is_embedded_once():
    class Clip:
        """Pictures point along their mean channel; texts along the channel of the colour they name."""

        asked = 0

        def features(self, images):
            return images.mean((2, 3)) + 1

        def texts(self, texts):
            self.asked += 1
            axes = {"red": 0, "green": 1, "blue": 2}
            rows = [next((axis for word, axis in axes.items() if word in text), None) for text in texts]
            return torch.stack([-torch.ones(3) if row is None else 3 * torch.eye(3)[row] for row in rows])

    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:, :4, 0], picture[:, 4:, 2] = 255, 255
    colours = ColourJudge(clip := Clip())
    pair = [Detection(DOG, 1.0, (0, 0, 4, 8)), Detection(DOG, 1.0, (4, 0, 8, 8))]
    assert colours(picture, pair, "dog") == ["red", "blue"]
    assert colours(picture, pair[:1], "dog") == ["red"]
    assert clip.asked == 1
