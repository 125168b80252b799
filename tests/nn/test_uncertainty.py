"""Four numbers of a distribution over codes, by hand."""

from __future__ import annotations

import pytest
import torch

from detokenizers.dcdd.lcdm import UncertaintyConfig, uncertainty
from detokenizers.nn.uncertainty import DECIDED, undecidedness


def test_one_hot_and_uniform_distributions():
    p = torch.stack([torch.eye(128)[5], torch.full((128,), 1 / 128)])
    expected = torch.tensor([DECIDED, (1 / 128, 0.0, 0.5, 1.0)])
    torch.testing.assert_close(undecidedness(p), expected, atol=1e-5, rtol=1e-5)


def test_a_distribution_by_hand():
    p = torch.tensor([0.5, 0.25, 0.125, 0.125])
    expected = torch.tensor([0.5, 0.25, 0.875, 1.0])
    torch.testing.assert_close(undecidedness(p, k_range=(2, 3), head=2), expected)


def test_numbers_stay_in_bounds_and_do_not_depend_on_the_order_of_codes():
    torch.manual_seed(0)
    p = (torch.randn(50, 200) * torch.logspace(-2, 2, 50)[:, None]).softmax(-1)
    u = undecidedness(p)
    assert u.isfinite().all()
    assert ((u >= 0) & (u <= 1)).all()
    torch.testing.assert_close(u, undecidedness(p[:, torch.randperm(200)]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("codes", [3, 12, 100, 1000])
def test_they_are_dcdd_s(codes):
    torch.manual_seed(0)
    p = (torch.randn(40, codes) * torch.linspace(0.1, 8, 40)[:, None]).softmax(-1)
    torch.testing.assert_close(undecidedness(p), uncertainty(p, UncertaintyConfig()), atol=2e-5, rtol=1e-4)


def test_two_codes_have_no_tail():
    with pytest.raises(ValueError, match="at least 3 codes"):
        undecidedness(torch.tensor([0.5, 0.5]))
