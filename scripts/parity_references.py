"""Record what torch-fidelity and lpips say, so that tests can hold us to it without installing them.

Both import torchvision, which must not be in the development environment, so they are put into a folder of their own
and only the modules that compute are loaded, with an empty stand-in for torchvision:

    pip install --no-deps --target /tmp/reference torch-fidelity==0.4.0 lpips==0.1.4
    python scripts/parity_references.py /tmp/reference

Fixed random weights and pictures (tests/pretrained/fixed_weights.py) -their code-> tests/pretrained/golden/; and lpips'
learned channel weights -as they are-> src/detokenizers/pretrained/networks/lpips_v0.1.safetensors.
"""

from __future__ import annotations

import sys
import tempfile
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.pretrained.fixed_weights import feature_sets, fill, images, levels  # noqa: E402

from detokenizers.checkpoint import save_tensors  # noqa: E402
from detokenizers.pretrained.networks.inception import Inception  # noqa: E402

GOLDEN = ROOT / "tests" / "pretrained" / "golden"
LEARNED = ROOT / "src" / "detokenizers" / "pretrained" / "networks" / "lpips_v0.1.safetensors"
SIZES = {"small": (2, 3, 32, 32), "oblong": (1, 3, 200, 130), "large": (1, 3, 512, 400)}
VERSIONS = "torch-fidelity 0.4.0, lpips 0.1.4"


def main(reference: Path) -> None:
    """Write every reference file anew."""
    sys.path.append(str(reference))
    torch.set_grad_enabled(False)
    learned: dict[str, Tensor] = {}
    for net in ("alex", "vgg"):
        state = torch.load(
            reference / "lpips" / "weights" / "v0.1" / f"{net}.pth", map_location="cpu", weights_only=True
        )
        learned |= {f"{net}.{place}": state[f"lin{place}.model.1.weight"].flatten() for place in range(5)}
    save_tensors(LEARNED, learned, notes="LPIPS v0.1 channel weights, BSD-2-Clause, see NOTICE.md")
    models = stand_in(reference)
    write("inception", inception())
    write("set_distances", set_distances())
    write("lpips", perceptual(models))


def stand_in(reference: Path) -> Any:
    """An empty `torchvision.models`, and torch_fidelity as a package whose own imports do not run."""
    torchvision: Any = ModuleType("torchvision")
    torchvision.models = ModuleType("torchvision.models")
    fidelity = ModuleType("torch_fidelity")
    fidelity.__path__ = [str(reference / "torch_fidelity")]
    # Its helpers for files and caches import the real torchvision; the metrics never call them here.
    utils: Any = ModuleType("torch_fidelity.utils")
    utils.__getattr__ = lambda name: None
    sys.modules |= {
        "torchvision": torchvision,
        "torchvision.models": torchvision.models,
        "torch_fidelity": fidelity,
        "torch_fidelity.utils": utils,
    }
    return torchvision.models


def inception() -> dict[str, Tensor]:
    """Features and unbiased logits of torch-fidelity's Inception, and its resize alone."""
    network = import_module("torch_fidelity.feature_extractor_inceptionv3")
    resize = import_module("torch_fidelity.interpolate_compat_tensorflow").interpolate_bilinear_2d_like_tensorflow1x
    with tempfile.TemporaryDirectory() as folder:
        # Their net takes its weights from a file, and every name must fit; ours writes it.
        path = Path(folder) / "weights.pth"
        torch.save(fill(Inception()), path)
        net = network.FeatureExtractorInceptionV3(
            "theirs", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(path)
        )
    found: dict[str, Tensor] = {}
    for name, shape in SIZES.items():
        pictures = levels(*shape)
        found[f"features.{name}"], found[f"logits.{name}"] = net(pictures)
        # Whole maps would be megabytes; every 37th pixel is enough to distinguish any two resizes.
        found[f"resized.{name}"] = resize(pictures.float(), (299, 299), align_corners=False)[:, :, ::37, ::37]
    return found


def set_distances() -> dict[str, Tensor]:
    """FID and KID as torch-fidelity computes them from features, float32 as its extractor returns them."""
    fid, kid = import_module("torch_fidelity.metric_fid"), import_module("torch_fidelity.metric_kid")
    real, drawn = feature_sets()
    statistics = [fid.fid_features_to_statistics(features) for features in (real, drawn)]
    distance = fid.fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    discrepancy = kid.kernel_mmd(real[:300].double().numpy(), drawn.double().numpy())
    return {
        "frechet": torch.tensor(distance, dtype=torch.float64),
        "discrepancy": torch.tensor(discrepancy, dtype=torch.float64),
    }


def perceptual(models: Any) -> dict[str, Tensor]:
    """lpips 0.1.4 on backbones laid out as torchvision's, with fixed random weights."""
    models.alexnet = lambda pretrained: Backbone(alexnet())
    models.vgg16 = lambda pretrained: Backbone(vgg16())
    lpips = import_module("lpips")
    found: dict[str, Tensor] = {}
    for net in ("alex", "vgg"):
        distance = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
        for name, shape in {"square": (2, 3, 64, 64), "oblong": (1, 3, 75, 101)}.items():
            a, b = images(levels(*shape)), images(levels(*shape, seed=1))
            found[f"{net}.{name}"] = distance(a, b).flatten()
    return found


class Backbone:
    """What `torchvision.models.alexnet()` is to lpips: something with `features`, here filled by fixed weights."""

    def __init__(self, features: nn.Sequential) -> None:
        holder = nn.Module()
        holder.features = features
        fill(holder)
        self.features = features


def alexnet() -> nn.Sequential:
    """The layers of torchvision's `AlexNet.features`."""
    conv, relu, pool = nn.Conv2d, lambda: nn.ReLU(inplace=True), lambda: nn.MaxPool2d(3, 2)
    return nn.Sequential(
        conv(3, 64, 11, 4, 2), relu(), pool(), conv(64, 192, 5, padding=2), relu(), pool(),
        conv(192, 384, 3, padding=1), relu(), conv(384, 256, 3, padding=1), relu(),
        conv(256, 256, 3, padding=1), relu(), pool(),
    )  # fmt: skip


def vgg16() -> nn.Sequential:
    """The layers of torchvision's configuration D."""
    layers: list[nn.Module] = []
    before = 3
    for after in (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"):
        if isinstance(after, str):
            layers.append(nn.MaxPool2d(2, 2))
        else:
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(inplace=True)]
            before = after
    return nn.Sequential(*layers)


def write(name: str, tensors: dict[str, Tensor]) -> None:
    save_tensors(GOLDEN / f"{name}.safetensors", tensors, notes=f"made by scripts/parity_references.py; {VERSIONS}")
    print(f"{name}: {', '.join(f'{key} {tuple(value.shape)}' for key, value in tensors.items())}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
