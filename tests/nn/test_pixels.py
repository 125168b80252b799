"""Rounding to levels and cutting the centre, each as the people do whose numbers we compare with."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from detokenizers.pixels import centre_box, quantised

DRAWN = torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(0)) * 2.2 - 1.1


def test_the_nearest_level_is_ours_and_overshoot_is_clipped():
    assert quantised(torch.tensor([-1.2, 0.001, 1.0]).view(1, 3, 1, 1)).flatten().tolist() == [0, 128, 255]


def test_nearest_is_what_llamagen_s_sampling_script_writes():
    written = torch.clamp(127.5 * DRAWN + 128.0, 0, 255).to(torch.uint8)
    torch.testing.assert_close(quantised(DRAWN), written, atol=0, rtol=0)


def test_down_is_what_the_official_janus_script_writes():
    written = np.clip((DRAWN.double().numpy() + 1) / 2 * 255, 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(quantised(DRAWN, "down").numpy(), written)
    apart = quantised(DRAWN).int() - quantised(DRAWN, "down").int()
    assert set(apart.unique().tolist()) == {0, 1}
    assert 0.4 < apart.float().mean() < 0.55


@pytest.mark.parametrize("image", [torch.full((1, 3, 1, 1), torch.nan), torch.full((1, 3, 1, 1), torch.inf)])
def test_what_is_not_finite_has_no_level(image):
    with pytest.raises(ValueError, match="NaN or infinity"):
        quantised(image)
    with pytest.raises(ValueError, match=r"\[b 3 h w\]"):
        quantised(torch.zeros(3, 4, 4))


@pytest.mark.parametrize(
    ("rule", "lefts"),
    [("round", [0, 0, 1, 2, 2, 2, 3, 4, 4]), ("floor", [0, 0, 1, 1, 2, 2, 3, 3, 4])],
    ids=["torchvision", "transformers and ADM"],
)
def test_the_centre_is_cut_where_its_reference_cuts(rule, lefts):
    assert [centre_box((24 + spare, 24), 24, rule)[0] for spare in range(9)] == lefts
    assert [centre_box((24, 24 + spare), 24, rule)[1] for spare in range(9)] == lefts
    assert centre_box((31, 27), 24, rule)[2:] == (lefts[7] + 24, lefts[3] + 24)
