"""An item's random numbers belong to the item."""

from __future__ import annotations

import torch

from detokenizers.seeds import item_seeds
from detokenizers.training.draws import normal_like, per_item, uniform


def batch(first: int, count: int, seed: int = 0) -> dict[str, torch.Tensor]:
    return {"images": torch.zeros(count, 3, 4, 4), "seeds": item_seeds(seed, first, count)}


def test_the_draws_of_an_item_do_not_depend_on_its_company():
    whole = normal_like(batch(16, 8), "noise", torch.zeros(8, 3, 4, 4))
    parts = [normal_like(batch(first, 2), "noise", torch.zeros(2, 3, 4, 4)) for first in (16, 18, 20, 22)]
    assert torch.equal(whole, torch.cat(parts))


def test_items_steps_seeds_and_purposes_draw_apart():
    draws = [
        *uniform(batch(0, 4), "time"),
        *uniform(batch(4, 4), "time"),
        *uniform(batch(0, 4, seed=1), "time"),
        *uniform(batch(0, 4), "sharpness"),
    ]
    assert len({draw.item() for draw in draws}) == 16


def test_draws_have_the_law_they_are_named_after():
    normal = normal_like(batch(0, 500), "noise", torch.zeros(500, 20))
    assert abs(normal.mean().item()) < 0.05
    assert abs(normal.std().item() - 1) < 0.05
    level = uniform(batch(0, 4000), "level")
    assert 0 <= level.min() < 0.01 < 0.99 < level.max() < 1
    assert abs(level.mean().item() - 0.5) < 0.03


def test_without_seeds_draws_follow_the_default_generator():
    images, drawn = {"images": torch.zeros(2, 3)}, []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(per_item(images, "time", lambda generator: torch.rand(2, generator=generator)))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_draws_take_the_type_of_what_they_are_added_to():
    assert normal_like(batch(0, 2), "noise", torch.zeros(2, 3, dtype=torch.bfloat16)).dtype == torch.bfloat16
