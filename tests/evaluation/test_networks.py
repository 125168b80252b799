"""Networks come when a chosen metric asks for them, and clean-fid's resize is PIL's on float channels."""

import numpy as np
import pytest
import torch
from PIL import Image

from detokenizers.evaluation.networks import CleanInception, Networks

from .sides import TinyNet


def test_a_network_is_loaded_once_and_only_when_asked_for():
    loads = []

    def load():
        loads.append("world")
        return TinyNet()

    nets = Networks(world=load)
    assert loads == []
    assert nets.extractor("world") is nets.extractor("world")
    assert nets["world"] is nets["world"]
    assert loads == ["world"]


def test_an_unknown_network_is_refused():
    with pytest.raises(ValueError, match="no network 'vgg19'"):
        _ = Networks()["vgg19"]


def test_without_its_weights_a_network_says_which_file_it_wants(monkeypatch, tmp_path):
    monkeypatch.setenv("DETOK_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match=r"needs weights-inception-2015-12-05-6726825d\.pth"):
        _ = Networks()["inception"]
    with pytest.raises(ValueError, match=r"needs vgg16-397923af\.pth"):
        _ = Networks()["lpips-vgg"]


class Shown(torch.nn.Module):
    """Stands in for Inception: keeps what it is shown."""

    identity = "shown"

    def pooled(self, levels):
        self.levels = levels
        return levels.mean((2, 3))


def test_clean_inception_resizes_each_float_channel_with_pils_bicubic_and_does_not_round():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1
    net = Shown()
    clean = CleanInception(net)
    assert clean.features(images).shape == (1, 3)
    expected = [
        np.asarray(Image.fromarray(pixels[..., c].astype(np.float32)).resize((299, 299), Image.Resampling.BICUBIC))
        for c in range(3)
    ]
    assert net.levels[0].equal(torch.from_numpy(np.stack(expected)).clip(0, 255))
    assert clean.identity == "clean/shown"
