"""The state file: everything comes back, in the layout it had; another model's state is refused."""

from __future__ import annotations

import os
import signal
import time

import pytest
import torch
from torch import nn

from detokenizers.checkpoint import load_tensors, save_tensors
from detokenizers.training import EMA
from detokenizers.training.state import STATE, load_state, remove_leftovers, save_state

from . import toy


def parts(width: int = 6, seed: int = 0, decay: float = 0.9):
    objective = toy.job(width, seed).objective
    learns = [weight for weight in objective.parameters() if weight.requires_grad]
    return objective, [torch.optim.AdamW(learns, lr=1e-2)], EMA(objective, decay)


def trained(steps: int = 3, **options):
    objective, (optimizer,), ema = parts(**options)
    for step in range(steps):
        objective(toy.images(step, 4))["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        ema.update()
    return objective, [optimizer], ema


def test_weights_buffers_moments_average_and_step_come_back(tmp_path):
    before, after = trained(), parts(seed=1)
    save_state(tmp_path, *before, 3)
    assert load_state(tmp_path, *after) == 3
    for name, tensor in before[0].state_dict().items():
        assert torch.equal(tensor, after[0].state_dict()[name]) or ".frozen." in name
    assert after[0].calls == 3
    assert after[2].updates == 3
    assert all(torch.equal(before[2].shadow[name], after[2].shadow[name]) for name in before[2].shadow)
    saved, loaded = (triple[1][0].state_dict()["state"] for triple in (before, after))
    assert saved.keys() == loaded.keys()
    for index, moments in saved.items():
        assert all(torch.equal(moments[name], loaded[index][name]) for name in ("step", "exp_avg", "exp_avg_sq"))


def test_moments_come_back_in_the_layout_of_their_weights(tmp_path):
    """An optimiser that meets two layouts takes another code path, which is slower and rounds differently."""
    save_state(tmp_path, *trained(), 3)
    objective, (optimizer,), ema = parts()
    load_state(tmp_path, objective, [optimizer], ema)
    weight = objective.blocks[0].conv.weight
    assert not weight.is_contiguous()
    assert optimizer.state[weight]["exp_avg"].stride() == weight.stride()


def test_frozen_weights_are_left_out_and_left_alone(tmp_path):
    save_state(tmp_path, *trained(), 3)
    assert not any(".frozen." in name for name in load_tensors(tmp_path / STATE))
    after = parts(seed=1)
    frozen = after[0].blocks[0].frozen.weight.clone()
    load_state(tmp_path, *after)
    assert torch.equal(after[0].blocks[0].frozen.weight, frozen)


def test_without_a_state_training_starts_at_step_0(tmp_path):
    assert load_state(tmp_path, *parts()) == 0


def test_a_state_of_a_wider_model_is_refused(tmp_path):
    save_state(tmp_path, *trained(), 3)
    with pytest.raises(ValueError, match=r"saved by another model \(.+ does not fit\); train into a new --out folder"):
        load_state(tmp_path, *parts(width=8))


@pytest.mark.parametrize("name", ["trained/head.bias", "ema/head.bias"])
def test_a_state_that_lacks_a_tensor_is_refused(tmp_path, name):
    save_state(tmp_path, *trained(), 3)
    state = load_tensors(tmp_path / STATE)
    del state[name]
    save_tensors(tmp_path / STATE, state)
    with pytest.raises(ValueError, match=name):
        load_state(tmp_path, *parts())


@pytest.mark.parametrize("name", ["trained/tail.bias", "optimizer/99/exp_avg"])
def test_a_state_with_a_tensor_too_many_is_refused(tmp_path, name):
    save_state(tmp_path, *trained(), 3)
    save_tensors(tmp_path / STATE, load_tensors(tmp_path / STATE) | {name: torch.zeros(3)})
    with pytest.raises(ValueError, match=name):
        load_state(tmp_path, *parts())


def test_a_refused_state_changes_nothing(tmp_path):
    save_state(tmp_path, *trained(width=8), 3)
    after = parts()
    weights = {name: tensor.clone() for name, tensor in after[0].state_dict().items()}
    with pytest.raises(ValueError, match="another model"):
        load_state(tmp_path, *after)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in after[0].state_dict().items())


def test_a_damaged_state_is_one_clear_line(tmp_path):
    save_state(tmp_path, *trained(), 3)
    (tmp_path / STATE).write_bytes((tmp_path / STATE).read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        load_state(tmp_path, *parts())


def test_a_process_that_does_not_write_writes_nothing(tmp_path):
    save_state(tmp_path, *trained(), 3, write=False)
    assert list(tmp_path.iterdir()) == []


def test_the_state_is_whole_whenever_the_saving_process_is_killed(tmp_path):
    big = nn.Linear(1000, 1000)
    optimizer = torch.optim.AdamW(big.parameters())
    save_state(tmp_path, big, [optimizer], EMA(big, 0.0), 0)
    for delay in (0.005, 0.02, 0.05, 0.1):
        child = os.fork()
        if child == 0:
            torch.set_num_threads(1)
            for step in range(10**6):
                save_state(tmp_path, big, [optimizer], EMA(big, 0.0), step)
            os._exit(0)
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        load_state(tmp_path, big, [optimizer], EMA(big, 0.0))
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [STATE]
