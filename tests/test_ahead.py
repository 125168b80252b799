"""Batches that other processes make: the same, in order, with their errors, and nobody stays behind."""

from __future__ import annotations

import multiprocessing
import os

import pytest
import torch

from detokenizers.ahead import ahead
from detokenizers.checkpoint import load_tensors
from detokenizers.data.sources import Scenes
from detokenizers.training import train
from detokenizers.training.schedules import Constant
from detokenizers.training.state import whole_state
from tests import stack
from tests.training import toy


def test_workers_render_the_same_scenes_in_the_same_order():
    scenes = Scenes(stack.WORLD, 40)

    def batches(part):
        rows = range(part * 2, (part + 1) * 2)
        return {"images": scenes.images(rows), "maker": torch.tensor(os.getpid())}

    parts = range(1, 20, 3)
    with ahead(batches, parts, workers=2) as made:
        found = list(made)
    assert all(torch.equal(batch["images"], batches(part)["images"]) for batch, part in zip(found, parts))
    assert len(found) == len(parts)
    makers = {int(batch["maker"]) for batch in found}
    assert len(makers) == 2
    assert os.getpid() not in makers
    assert not multiprocessing.active_children()


def test_a_run_with_workers_gives_the_same_bits_also_when_it_goes_on(tmp_path):
    config = toy.CONFIG.vary({"accumulate": 2, "schedule": Constant()})
    train(toy.job(), config, tmp_path / "alone")
    train(toy.job(), config.vary({"workers": 2, "steps": 5}), tmp_path / "workers")
    train(toy.job(), config.vary({"workers": 2}), tmp_path / "workers")
    workers, alone = tmp_path / "workers", tmp_path / "alone"
    for read in (whole_state, lambda folder: load_tensors(folder / toy.WEIGHTS)):
        ours, theirs = read(workers), read(alone)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_a_batch_is_raised_as_it_is_and_the_workers_go(tmp_path, workers):
    def batches(part, size):
        if part == 3:
            raise ValueError("cannot read 00003.png: truncated")
        return toy.images(part, size)

    with pytest.raises(ValueError, match=r"^cannot read 00003.png: truncated$"):
        train(toy.job(batches=batches), toy.CONFIG.vary({"workers": workers}), tmp_path)
    assert not multiprocessing.active_children()


def test_without_workers_a_batch_is_made_when_it_is_asked_for():
    asked: list[int] = []

    def make(part):
        asked.append(part)
        return toy.images(part, 2)

    with ahead(make, range(9), workers=0) as made:
        next(made), next(made)
    assert asked == [0, 1]
