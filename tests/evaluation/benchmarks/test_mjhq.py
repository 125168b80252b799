"""MJHQ-30K's ten categories: the grouping must give what each category alone gives."""

from __future__ import annotations

import json

import pytest
import torch

from detokenizers.evaluation.benchmarks.mjhq import CATEGORIES, by_category, read_mjhq, sort_in
from detokenizers.evaluation.frechet import frechet
from detokenizers.evaluation.moments import Moments
from detokenizers.evaluation.results import Metric


def meta(each):
    return {f"{place:02d}{row:04d}": {"category": name, "prompt": f"{name} {row}"}
            for place, name in enumerate(CATEGORIES) for row in range(each)}  # fmt: skip


def test_the_official_file_is_read_with_paths_as_ids(tmp_path):
    (tmp_path / "meta_data.json").write_text(json.dumps(meta(3000)))
    found = read_mjhq(tmp_path / "meta_data.json")
    assert len(found) == 30_000
    assert (found["animals/000007"].category, found["animals/000007"].text) == ("animals", "animals 7")


@pytest.mark.parametrize(
    ("text", "clue"),
    [
        ("[1, 2]", "expected a JSON object"),
        ("{", "not JSON"),
        ('{"a": {"category": "animals"}}', 'expected a text under "prompt"'),
        ('{"a": {"category": "cars", "prompt": "x"}}', "no category 'cars'"),
        ('{"a/b": {"category": "art", "prompt": "x"}}', "cannot be a file name"),
        ('{"a": {"category": "art", "prompt": "x"}}', "animals 0"),
    ],
)
def test_what_is_not_the_official_file_is_refused(tmp_path, text, clue):
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(ValueError) as error:
        read_mjhq(tmp_path / "m.json")
    assert clue in str(error.value)


def test_each_category_is_measured_alone_and_all_together():
    ids = [f"{name}/{row}" for row in range(6) for name in CATEGORIES[:3]]
    categories = {id: id.split("/")[0] for id in ids}
    torch.manual_seed(0)
    drawn, real = torch.randn(18, 4), torch.randn(18, 4) + 0.3
    sides = [
        sort_in([(ids[a : a + 5], rows[a : a + 5]) for a in range(0, 18, 5)], categories, "net")
        for rows in (drawn, real)
    ]
    metrics = by_category(*sides, Metric("FD-net", "lower"))["metrics"]
    assert metrics["overall"]["value"] == pytest.approx(frechet(Moments.of(drawn), Moments.of(real)), rel=1e-9)
    animals = torch.tensor([categories[id] == "animals" for id in ids])
    alone = frechet(Moments.of(drawn[animals]), Moments.of(real[animals]))
    assert metrics["animals"]["value"] == pytest.approx(alone, rel=1e-9)
    assert [one["n"] for one in metrics.values()] == [18, 6, 6, 6]
    assert list(metrics) == ["overall", "animals", "art", "fashion"]


def test_pictures_that_are_missing_or_strange_are_refused():
    categories = {"art/1": "art", "art/2": "art"}
    with pytest.raises(ValueError, match="are missing"):
        sort_in([(["art/1"], torch.zeros(1, 2))], categories, "net")
    with pytest.raises(ValueError, match="'art/3' is not in"):
        sort_in([(["art/3"], torch.zeros(1, 2))], categories, "net")
