"""The state file: everything comes back, in the layout it had; another model's state is refused."""

from __future__ import annotations

import os
import signal
import time

import pytest
import torch
from torch import nn

from detokenizers.training import EMA
from detokenizers.training.state import STATE, load_state, remove_leftovers, save_state, whole_state

from . import toy
from .states import as_before


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
    assert not any(".frozen." in name for name in whole_state(tmp_path))
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


def test_a_state_of_before_there_were_parts_is_read_and_replaced(tmp_path):
    save_state(tmp_path, *trained(), 3)
    state, after = whole_state(tmp_path), parts(seed=1)
    as_before(tmp_path, state)
    assert load_state(tmp_path, *after) == 3
    assert whole_state(tmp_path)["optimizer/0/step"].shape == ()
    save_state(tmp_path, *after, 4)
    assert [path.name for path in tmp_path.iterdir()] == [STATE]
    again = whole_state(tmp_path)
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in state.items() if name != "step")


@pytest.mark.parametrize("name", ["trained/head.bias", "ema/head.bias"])
def test_a_state_that_lacks_a_tensor_is_refused(tmp_path, name):
    save_state(tmp_path, *trained(), 3)
    state = whole_state(tmp_path)
    del state[name]
    as_before(tmp_path, state)
    with pytest.raises(ValueError, match=name):
        load_state(tmp_path, *parts())


@pytest.mark.parametrize("name", ["trained/tail.bias", "optimizer/99/exp_avg"])
def test_a_state_with_a_tensor_too_many_is_refused(tmp_path, name):
    save_state(tmp_path, *trained(), 3)
    as_before(tmp_path, whole_state(tmp_path) | {name: torch.zeros(3)})
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
    (part,) = (tmp_path / STATE / "00000003").iterdir()
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"00000003 is not a readable state .+ Delete it to train anew"):
        load_state(tmp_path, *parts())


def test_a_state_with_numbers_that_are_none_is_refused(tmp_path):
    before = trained()
    with torch.no_grad():
        before[0].head.bias[0] = torch.nan
    save_state(tmp_path, *before, 3)
    with pytest.raises(ValueError, match=r"'trained/head\.bias' holds NaN"):
        load_state(tmp_path, *parts())


def test_a_state_in_several_files_comes_back(tmp_path, monkeypatch):
    monkeypatch.setattr("detokenizers.training.state.FILE_BYTES", 1000)
    before, after = trained(), parts(seed=1)
    save_state(tmp_path, *before, 3)
    assert len(list((tmp_path / STATE / "00000003").iterdir())) > 3
    assert load_state(tmp_path, *after) == 3
    assert torch.equal(after[0].blocks[1].conv.weight, before[0].blocks[1].conv.weight)


def test_weights_that_two_names_share_are_saved_under_both(tmp_path):
    def tied():
        one = nn.Linear(3, 3, bias=False)
        both = nn.ModuleDict({"one": one, "other": nn.Linear(3, 3, bias=False)})
        both["other"].weight = one.weight
        return both, [torch.optim.AdamW(both.parameters())], EMA(both, 0.0)

    before, after = tied(), tied()
    save_state(tmp_path, *before, 1)
    assert load_state(tmp_path, *after) == 1
    assert torch.equal(after[0]["other"].weight, before[0]["one"].weight)


def test_a_state_that_cannot_be_written_is_one_clear_line_and_the_one_before_stays(tmp_path, monkeypatch):
    before = trained()
    save_state(tmp_path, *before, 3)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ValueError, match=r"cannot write .+00000004: .*No space left on device"):
        save_state(tmp_path, *before, 4)
    assert load_state(tmp_path, *parts()) == 3


def test_the_state_is_whole_whenever_the_saving_process_is_killed(tmp_path):
    big = nn.Linear(1000, 1000)
    optimizer = torch.optim.AdamW(big.parameters())
    save_state(tmp_path, big, [optimizer], EMA(big, 0.0), 0)
    for delay in (0.005, 0.02, 0.05, 0.1):
        child = os.fork()
        if child == 0:
            torch.set_num_threads(1)
            for step in range(1, 10**6):
                save_state(tmp_path, big, [optimizer], EMA(big, 0.0), step)
            os._exit(0)
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        load_state(tmp_path, big, [optimizer], EMA(big, 0.0))
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [STATE]
    assert not list((tmp_path / STATE).glob(".*"))
