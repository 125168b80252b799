"""What all runs share: a cache that is named by what its arrays depend on."""

from __future__ import annotations

import pytest
import torch

from detokenizers.checkpoint import save_tensors
from detokenizers.data.sources import WorldImages
from detokenizers.papers import RECIPES
from detokenizers.training import CachedRun, Job, Run, TrainConfig
from detokenizers.training.run_folder import INPUTS, require_same_inputs

from .toy import job

SOURCE = WorldImages(count=3).open()


class Toy(CachedRun):
    def job(self) -> Job:
        return job()


@pytest.fixture
def run(tmp_path) -> Toy:
    return Toy(recipe="toy", cache=str(tmp_path), train=TrainConfig(steps=1))


def encoded(run: Toy, kind: str, more: bool = False, **inputs: str) -> list[torch.Tensor]:
    """Encode three scenes; returns the batches that had to be encoded."""
    read: list[torch.Tensor] = []

    def encode(images, rows):
        read.append(images)
        return {"means": images.mean((1, 2, 3))}

    assert len(run.encoded(kind, SOURCE, encode, inputs, more=more)) == 3
    return read


def test_equal_inputs_are_encoded_once(run):
    assert len(encoded(run, "means", images="a" * 64, encoder="b" * 64)) == 1
    assert encoded(run, "means", images="a" * 64, encoder="b" * 64) == []


@pytest.mark.parametrize(("kind", "encoder"), [("means", "c"), ("medians", "b")])
def test_another_input_or_another_kind_of_arrays_is_encoded_anew(run, kind, encoder):
    encoded(run, "means", images="a", encoder="b")
    assert len(encoded(run, kind, images="a", encoder=encoder)) == 1


def test_a_whole_cache_of_more_inputs_is_read_by_those_who_ask_for_it(run, tmp_path):
    encoded(run, "means", images="a", encoder="b", space="c")
    assert encoded(run, "means", more=True, images="a", encoder="b") == []
    assert len(encoded(run, "means", images="a", encoder="b")) == 1
    assert len(encoded(run, "means", more=True, images="x", encoder="b")) == 1
    (tmp_path / "medians-a-b-c").mkdir()  # that another run has only begun
    assert len(encoded(run, "medians", more=True, images="a", encoder="b")) == 1
    assert not list((tmp_path / "medians-a-b-c").iterdir())


def test_only_the_first_rows_can_be_encoded(run):
    def encode(images, rows):
        return {"row": torch.tensor(list(rows))}

    arrays = run.encoded("rows", SOURCE, encode, {"count": "2"}, count=2)
    assert len(arrays) == 2
    assert arrays[[1, 0]]["row"].tolist() == [1, 0]


def test_every_recipe_is_a_run_and_keeps_its_name(run):
    for name, recipe in RECIPES.items():
        made = recipe()
        assert isinstance(made, Run)
        assert made.recipe == name


def test_settings_without_a_job_are_no_run():
    class Settings(Run):
        pass

    with pytest.raises(TypeError, match="job"):
        Settings(recipe="none")  # pyright: ignore[reportAbstractUsage]


def test_a_run_goes_on_with_inputs_that_its_record_does_not_name_and_refuses_others(tmp_path):
    save_tensors(tmp_path / "weights.safetensors", {"x": torch.zeros(1)})
    (tmp_path / INPUTS).write_text('{"images": "a"}')
    require_same_inputs({"images": "a", "tokenizer": "b"}, tmp_path)
    for others in ({"images": "c"}, {"tokenizer": "b"}):
        with pytest.raises(ValueError, match=r"the images that .+ was trained with changed since"):
            require_same_inputs(others, tmp_path)
