"""The moving average of weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from detokenizers.training import EMA


def layer(value: float = 0.0) -> nn.Linear:
    module = nn.Linear(2, 1, bias=False)
    nn.init.constant_(module.weight, value)
    return module


def test_the_average_follows_the_formula():
    module, expected = layer(), 0.0
    ema = EMA(module, 0.3)
    for update in range(12):
        nn.init.constant_(module.weight, update + 1.0)
        ema.update()
        decay = min(0.3, (update + 1) / (update + 20))
        expected = decay * expected + (1 - decay) * (update + 1)
        assert ema.shadow["weight"][0, 0].item() == pytest.approx(expected, rel=1e-5)
    assert ema.updates == 12


def test_the_module_has_the_averaged_weights_in_the_block_and_its_own_after():
    module = layer()
    ema = EMA(module, 0.9)
    nn.init.constant_(module.weight, 1.0)
    with ema.in_place():
        assert module.weight.sum() == 0
    assert module.weight.sum() == 2
    with pytest.raises(RuntimeError, match="on purpose"), ema.in_place():
        raise RuntimeError("on purpose")
    assert module.weight.sum() == 2


def test_only_what_learns_is_averaged():
    module = nn.Sequential(layer(), layer().requires_grad_(False))
    assert list(EMA(module, 0.9).shadow) == ["0.weight"]


def test_a_decay_of_zero_costs_nothing_and_changes_nothing():
    module = layer(1.0)
    ema = EMA(module, 0.0)
    assert ema.shadow == {}
    nn.init.constant_(module.weight, 5.0)
    ema.update()
    pointer = module.weight.data_ptr()
    with ema.in_place():
        assert module.weight.sum() == 10
        assert module.weight.data_ptr() == pointer
    assert ema.updates == 1


def test_the_average_lies_as_its_weights_do():
    convolution = nn.Conv2d(4, 4, 3).to(memory_format=torch.channels_last)
    assert EMA(convolution, 0.9).shadow["weight"].stride() == convolution.weight.stride()
