"""DPG-Bench's arithmetic on answers given by hand, ours and the official script's, and the file it reads."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from detokenizers.evaluation.benchmarks.dpg_questions import COLUMNS, missing_parents, quarters, read_items
from detokenizers.evaluation.benchmarks.dpg_score import difference, official_score, officially, score, zeroed


def table(*rows, header=COLUMNS):
    """The official csv of (item, id, dependency, broad, detailed)."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(header)
    for item, id, dependency, broad, detailed in rows:
        writer.writerow(
            [item, f"prompt of {item}", "", id, dependency, broad, detailed, f"{broad} - {detailed} (x)", f"Is {id}?"]
        )
    return text.getvalue()


ROWS = [
    ("a", 1, "0", "entity", "whole"),
    ("a", 2, "1", "attribute", "color"),
    ("a", 3, "1,2", "relation", "spatial"),
    ("b", 1, "0", "entity", "whole"),
    ("b", 2, "1", "attribute", "color"),
]
YES, NO = True, False


@pytest.fixture
def items(tmp_path):
    def make(*rows, **how):
        path = tmp_path / "dpg_bench.csv"
        path.write_text(table(*rows), encoding="utf-8")
        return read_items(path, partial=True, **how)

    return make


def test_questions_are_read_in_order_with_their_parents(items):
    first, second = items(*ROWS)
    assert (first.id, first.text, second.id) == ("a", "prompt of a", "b")
    assert [(one.id, one.parents) for one in first.questions] == [(1, ()), (2, (1,)), (3, (1, 2))]
    assert first.questions[1].tuple == "attribute - color (x)"


def test_a_no_zeroes_all_that_depends_on_it_near_and_far(items):
    item = items(*ROWS)[0]
    assert zeroed(item, [YES, YES, YES]) == [1, 1, 1]
    assert zeroed(item, [YES, NO, YES]) == [1, 0, 0]
    assert zeroed(item, [NO, YES, YES]) == [0, 0, 0]


def test_zeroing_does_not_depend_on_the_order_of_rows_but_officially_does(items):
    (item,) = items(("a", 3, "2", "r", "s"), ("a", 2, "1", "e", "p"), ("a", 1, "0", "e", "w"))
    assert zeroed(item, [YES, YES, NO]) == [0, 0, 0]
    assert officially(item, [YES, YES, NO]) == 1 / 3  # the grandchild was looked at before its parent fell


def test_a_circle_of_questions_is_no_endless_loop(items):
    (item,) = items(("a", 1, "2", "e", "w"), ("a", 2, "1", "e", "w"))
    assert zeroed(item, [YES, YES]) == [1, 1]
    assert zeroed(item, [YES, NO]) == [0, 0]


def test_the_score_is_a_mean_over_questions_pictures_and_items(items):
    both = items(*ROWS)
    said = {
        "a": [[YES, YES, YES], [YES, NO, YES], [NO, YES, YES], [YES, YES, NO]],  # zeroed: 3/3 1/3 0/3 2/3
        "b": [[YES, YES]] * 3 + [[NO, YES]],  # zeroed: 1 1 1 0
    }
    result = score(both, said)
    assert result["metrics"]["score"]["value"] == pytest.approx(100 * (0.5 + 0.75) / 2)
    assert result["metrics"]["raw"]["value"] == pytest.approx(100 * (9 / 12 + 7 / 8) / 2)
    assert result["broad"]["entity"]["raw"]["value"] == pytest.approx(100 * 6 / 8)
    assert result["broad"]["attribute"]["raw"]["value"] == pytest.approx(100 * 7 / 8)
    assert result["broad"]["attribute"]["score"]["value"] == pytest.approx(100 * 5 / 8)
    assert result["detailed"]["relation - spatial"]["score"]["value"] == pytest.approx(100 * 1 / 4)
    assert result["broad"]["relation"]["score"]["n"] == 4
    assert result["metrics"]["score"]["low"] == pytest.approx(50)
    assert result["metrics"]["score"]["high"] == pytest.approx(75)


def test_decoders_are_compared_item_by_item(items):
    both = items(*ROWS)
    ours = {"a": [[YES, YES, YES]] * 4, "b": [[YES, YES]] * 4}
    worse = {"a": [[NO, YES, YES]] * 4, "b": [[YES, NO]] * 4}
    assert difference(both, ours, worse)["metrics"]["score"]["value"] == pytest.approx((100 + 50) / 2)


def test_the_official_script_loses_the_first_question_and_with_it_the_item(items):
    both = items(*ROWS, official_quirks=True)
    assert [one.id for one in both[0].questions] == [2, 3]
    said = {"a": [[YES, YES]] * 4, "b": [[YES, YES], [YES, NO], [NO, YES], [NO, YES]]}
    result = official_score(both, said)
    assert result["skipped"] == ["a"]
    assert result["metrics"]["score"]["value"] == pytest.approx(100 * (1 + 0.5 + 0 + 0) / 4)
    # Categories: the last picture alone, before zeroing.
    assert {name: one["raw"]["value"] for name, one in result["broad"].items()} == {"entity": 0, "attribute": 100}
    assert set(result["detailed"]) == {"entity - whole", "attribute - color"}


def test_the_official_script_keeps_an_item_whose_missing_parent_is_never_looked_up(items):
    rows = [*ROWS[:2], ("a", 3, "2,1", "relation", "spatial")]
    (item,) = items(rows[0], ("a", 2, "0", "attribute", "color"), rows[2], official_quirks=True)
    assert officially(item, [NO, YES]) == 0
    with pytest.raises(KeyError):
        officially(item, [YES, YES])


def test_officially_only_the_last_block_of_an_item_counts(items):
    rows = [ROWS[0], ROWS[0], ROWS[3], ("a", 2, "0", "attribute", "color")]
    both = items(*rows, official_quirks=True)
    assert {item.id: [one.id for one in item.questions] for item in both} == {"b": [1], "a": [2]}


def test_all_items_skipped_is_an_error_and_not_a_score(items):
    (item,) = items(*ROWS[:2], official_quirks=True)
    with pytest.raises(ValueError, match="skip every item"):
        official_score([item], {"a": [[YES]]})


def test_a_dependency_on_nothing_is_reported_and_cannot_say_no(items):
    one = items(("a", 1, "0", "e", "w"), ("a", 2, "7", "e", "w"))
    assert missing_parents(one) == ["a: question 2 depends on 7"]
    assert zeroed(one[0], [YES, YES]) == [1, 1]


def test_a_second_header_line_is_no_question(items):
    (item,) = items(("item_id", "proposition_id", "dependency", "category_broad", "category_detailed"), ROWS[0])
    assert [one.id for one in item.questions] == [1]


@pytest.mark.parametrize(
    ("text", "clue"),
    [
        ("item_id,text\n", "lacks the columns keywords"),
        (table(("a", "one", "0", "e", "w")), "not whole numbers"),
        (table(("a", 1, "none", "e", "w")), "not whole numbers"),
        (table(ROWS[0], ROWS[0]), "question 1 twice"),
        (table(("a/b", 1, "0", "e", "w")), "cannot be a file name"),
        (table(*ROWS), "2 items, not DPG-Bench's 1,065"),
        (table(*ROWS)[:-4] + "\na,b\n", "fewer fields"),
    ],
)
def test_what_is_not_the_official_csv_is_refused_in_one_line(tmp_path, text, clue):
    (tmp_path / "file.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError) as error:
        read_items(tmp_path / "file.csv")
    assert clue in str(error.value)
    assert "\n" not in str(error.value)


def test_a_grid_is_cut_in_reading_order():
    grid = np.zeros((8, 8, 3), np.uint8)
    grid[:4, 4:], grid[4:, :4], grid[4:, 4:] = 1, 2, 3
    assert [int(one[0, 0, 0]) for one in quarters(grid, 4, "x")] == [0, 1, 2, 3]
    assert [one.shape for one in quarters(grid, None, "x")] == [(4, 4, 3)] * 4


@pytest.mark.parametrize(
    ("shape", "resolution", "clue"),
    [((8, 6), None, "6x8 px"), ((7, 7), None, "square 2x2 grid"), ((8, 8), 8, "4 px pictures, not of --resolution 8")],
)
def test_a_picture_that_is_no_such_grid_is_refused(shape, resolution, clue):
    with pytest.raises(ValueError, match=clue):
        quarters(np.zeros((*shape, 3), np.uint8), resolution, "a.png")
