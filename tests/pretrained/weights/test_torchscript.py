"""TorchScript archives are read as tensors; neither their code nor their pickle is executed."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from detokenizers.digests import sha256_of
from detokenizers.pretrained.networks.inception import INCEPTION, Inception
from detokenizers.pretrained.networks.inception_blocks import ConvNormReLU
from detokenizers.pretrained.weights.formats import tensors_in
from tests.pretrained.fixed_weights import fill, images, levels


class Net(nn.Module):
    """Nested modules, views of a storage, whole and half-precision numbers, an empty tensor, lists and a string."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.narrow = nn.Parameter(torch.randn(3, 5).T.half())
        self.register_buffer("counts", torch.arange(7)[2:])
        self.register_buffer("none", torch.zeros(0, 3))
        self.widths, self.name = [3, 4], "net"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x) * self.narrow.float().sum()


def scripted(net: nn.Module, path: Path) -> Path:
    torch.jit.script(net).save(str(path))
    return path


def with_pickle(source: Path, path: Path, pickled: bytes) -> Path:
    """A copy of an archive with another pickle in it."""
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(path, "w") as copy:
        for name in archive.namelist():
            copy.writestr(name, pickled if name.endswith("/data.pkl") else archive.read(name))
    return path


def test_a_scripted_module_gives_its_state_dict_and_no_code_is_compiled(tmp_path, monkeypatch):
    net = Net()
    path = scripted(net, tmp_path / "net.pt")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the archive was loaded as a program")

    monkeypatch.setattr(torch.jit, "load", refuse)
    monkeypatch.setattr(torch, "load", refuse)
    expected = net.state_dict()
    found = tensors_in(path)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


class Trap:
    def __reduce__(self):
        return print, ("executed",)


@pytest.mark.parametrize("trap", [Trap(), [Trap()], {"weight": Path("x")}])
def test_a_pickle_that_asks_for_anything_else_is_refused(tmp_path, capsys, trap):
    path = with_pickle(scripted(Net(), tmp_path / "net.pt"), tmp_path / "trap.pt", pickle.dumps(trap, 2))
    with pytest.raises(ValueError, match=r"trap\.pt is not a readable TorchScript archive: it asks for ") as caught:
        tensors_in(path)
    assert "\n" not in str(caught.value)
    assert "executed" not in capsys.readouterr().out


def test_tensors_beyond_their_storage_and_pickles_cut_off_are_refused(tmp_path):
    path = scripted(Net(), tmp_path / "net.pt")
    with zipfile.ZipFile(path) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        pickled = archive.read(name)
    beyond = pickled.replace(b"K\x04K\x03K\x03K\x03", b"K\xffK\x03K\x03K\x03")  # a shape of 255x3x3x3
    assert beyond != pickled
    for number, wrong in enumerate([pickled[:-40], beyond, b""]):
        with pytest.raises(ValueError, match="is not a readable TorchScript archive"):
            tensors_in(with_pickle(path, tmp_path / f"{number}.pt", wrong))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"net\.pt is not a readable weight file"):
        tensors_in(path)


class Convolution(nn.Module):
    """A convolution under TensorFlow's names."""

    def __init__(self, part: ConvNormReLU) -> None:
        super().__init__()
        self.weight, self.beta = part.conv.weight, part.bn.bias
        self.register_buffer("mean", part.bn.running_mean)
        self.register_buffer("var", part.bn.running_var)

    def forward(self) -> torch.Tensor:
        return self.weight


class Graph(nn.Module):
    """Convolutions in the order of the graph, as such exports have them."""

    def __init__(self, net: Inception, leave_out: int = 0) -> None:
        super().__init__()
        parts = [part for part in net.modules() if isinstance(part, ConvNormReLU)]
        self.layers = nn.ModuleList([Convolution(part) for part in parts[: len(parts) - leave_out]])

    def forward(self) -> int:
        return len(self.layers)


def test_an_inception_in_torchscript_computes_the_same_features_and_is_named_after_its_own_file(tmp_path):
    net = Inception()
    fill(net)
    for part in net.modules():
        if isinstance(part, ConvNormReLU):
            part.bn.weight.data.fill_(1)
    path = scripted(Graph(net), tmp_path / "graph.pt")
    loaded, pictures = Inception.load(path), images(levels(1, 3, 40, 40))
    assert torch.equal(loaded.features(pictures), net.features(pictures))
    assert loaded.identity == f"inception-2015-12-05@sha256:{sha256_of(path)}"
    with pytest.raises(ValueError, match=f"has no class head; the Inception score needs {INCEPTION}"):
        loaded.logits(pictures)
    with pytest.raises(ValueError, match=r"does not fit a Inception: missing Mixed_7c"):
        Inception.load(scripted(Graph(net, leave_out=1), tmp_path / "hole.pt"))
