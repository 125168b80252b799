"""DCDD takes any net that fits its space: here two convolutions of our own over pixels, no FLUX and no VAE."""

import pytest
import torch
from torch import nn

from detokenizers.dcdd.calibrate import Calibration
from detokenizers.dcdd.condition import CondConfig, CondEncoder
from detokenizers.dcdd.lcdm import HardCodes
from detokenizers.dcdd.model import DCDD
from detokenizers.dcdd.objectives import DCDDObjective
from detokenizers.decoder import FlowDecoder
from detokenizers.flow import FixedShift, LogitNormal, TimeGrid
from detokenizers.pretrained.spaces import Pixels

from . import tiny


class SmallNet(nn.Module):
    """Two convolutions over noisy pixels, time and condition."""

    def __init__(self, condition_channels: int) -> None:
        super().__init__()
        first = nn.Conv2d(3 + 1 + condition_channels, 32, 3, padding=1)
        self.layers = nn.Sequential(first, nn.SiLU(), nn.Conv2d(32, 3, 3, padding=1))

    def forward(self, noisy, t, condition):
        time = t.view(-1, 1, 1, 1).expand(-1, 1, *noisy.shape[-2:])
        return self.layers(torch.cat([noisy, time, condition], 1))


def build(**settings) -> DCDD:
    torch.manual_seed(0)
    encoder = CondEncoder(CondConfig(width=16, groups=4), tiny.DIM + 4, tiny.DIM)
    decoder = FlowDecoder(Pixels(), SmallNet(encoder.channels), TimeGrid(shift=FixedShift()))
    calibration = Calibration(kappa=20.0)
    return DCDD(tiny.codebook(), encoder, decoder, calibration=calibration, token_stride=8, steps=1, **settings)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Four of one colour each."""
    colours = torch.tensor([[1.0, -1, -1], [-1, 1, -1], [-1, -1, 1], [1, 1, 1]])
    return colours[:, :, None, None].expand(-1, -1, 32, 32).contiguous()


def test_on_pixels_it_learns_and_reconstructs(images):
    """In one step, so that a net of two layers will do; it is trained where that step is."""
    dcdd, tokenizer = build(), tiny.Tokenizer()
    objective = DCDDObjective(dcdd, time_law=LogitNormal(shift=FixedShift(mu=4.0)))
    batch = {"latents": images, "features": tokenizer.features(images)}
    optimizer = torch.optim.AdamW(dcdd.parameters(), lr=1e-2)
    before = (dcdd(dcdd.read(images, tokenizer)) - images).square().mean()
    for step in range(80):
        optimizer.zero_grad()
        objective(batch | {"seeds": torch.arange(4) + 4 * step})["loss"].backward()
        optimizer.step()
    again = dcdd(dcdd.read(images, tokenizer))
    assert again.shape == images.shape
    assert (again - images).square().mean() < 0.3 * before
    swapped = dcdd(dcdd.read(images.flip(0), tokenizer))
    assert (swapped - images).square().mean() > 4 * (again - images).square().mean(), "it follows its condition"


def test_without_a_config_it_cannot_be_saved_and_the_error_has_the_way_out(tmp_path):
    with pytest.raises(ValueError, match="build it with DCDDConfig"):
        build().save(tmp_path)


def test_its_fingerprint_follows_weights_and_settings():
    dcdd, own = build(), build().fingerprint()
    assert dcdd.fingerprint() == own
    assert build(lcdm=HardCodes()).fingerprint() != own
    with torch.no_grad():
        dcdd.decoder.net.layers[0].bias[0] += 1
    assert dcdd.fingerprint() != own
