"""Whole evaluations: results are reproducible, batch-independent, strict JSON, and rendered as people read them."""

import json

import pytest
import torch

from detokenizers.data.scenes import parse
from detokenizers.evaluation import tables
from detokenizers.evaluation.features import Extractor, collect, item_seed
from detokenizers.evaluation.generation import generation
from detokenizers.evaluation.reconstruction import reconstruction
from detokenizers.evaluation.world_judge import WorldJudge

FAST = {"num_resamples": 50, "num_frechet_resamples": 10}


class TinyNet(torch.nn.Module):
    """Stands in for WorldNet: features, activations and answers of an untrained net."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 12, 5, stride=4)

    def activations(self, images):
        return [self.conv(images)]

    def features(self, images):
        return self.conv(images).relu().mean((2, 3))

    def forward(self, images):
        flat = self.features(images)
        return {
            "counts": flat[:, :10].view(-1, 2, 5),
            "colours": flat[:, :4].view(-1, 2, 2),
            "background": flat[:, :2],
        }


def same(images, *, seeds):
    return images


def blurred(images, *, seeds):
    return torch.nn.functional.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)


def noisy(images, *, seeds):
    noise = [torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return images + 0.2 * torch.stack(noise)


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(24, 3, 20, 20, generator=generator) * 2 - 1


@pytest.fixture(scope="module")
def extractor():
    return Extractor(TinyNet(), "tiny")


def dealt(images, batch_size):
    ids = [f"image-{index}" for index in range(len(images))]
    for start in range(0, len(images), batch_size):
        yield ids[start : start + batch_size], images[start : start + batch_size]


@pytest.fixture(scope="module")
def reconstructed(images, extractor):
    return reconstruction(dealt(images, 24), {"blurred": blurred, "noisy": noisy, "same": same}, extractor, **FAST)


@pytest.fixture(scope="module")
def generated(images, extractor):
    judge = WorldJudge(extractor.net, nouns=["dog", "cat"], colours=[None, "red"], backgrounds=["grass", "sand"])
    asked = {f"image-{index}": parse("a dog on grass" if index % 2 else "two dogs on sand") for index in range(24)}
    reference = collect(dealt(images, 24), extractor)
    decoders = {"blurred": blurred, "same": same}
    return generation(dealt(images, 5), decoders, extractor, reference, judge=judge, asked=asked, **FAST)


def test_the_result_is_strict_json_and_says_how_it_was_made(reconstructed, generated):
    for result in (reconstructed, generated):
        assert json.loads(json.dumps(result, allow_nan=False)) == result
        assert {"n", "seed", "device", "versions", "extractor", "quantisation", "settings"} <= set(result)
        assert result["extractor"].startswith("tiny:")
        assert not any("fid" in key for entry in result["decoders"].values() for key in entry["metrics"])


def test_batch_size_does_not_change_a_number(images, extractor, reconstructed):
    again = reconstruction(dealt(images, 7), {"blurred": blurred, "noisy": noisy, "same": same}, extractor, **FAST)
    for name, entry in reconstructed["decoders"].items():
        values = {key: metric["value"] or 0 for key, metric in entry["metrics"].items()}
        others = {key: metric["value"] or 0 for key, metric in again["decoders"][name]["metrics"].items()}
        assert others == pytest.approx(values, rel=1e-5, abs=1e-9)


def test_two_runs_give_the_same_result(images, extractor, reconstructed):
    again = reconstruction(dealt(images, 24), {"blurred": blurred, "noisy": noisy, "same": same}, extractor, **FAST)
    assert again == reconstructed


def test_every_metric_ranks_the_faithful_decoder_first(reconstructed):
    for name in ("blurred", "noisy"):
        metrics, best = reconstructed["decoders"][name]["metrics"], reconstructed["decoders"]["same"]["metrics"]
        assert metrics["fd_tiny"]["value"] > best["fd_tiny"]["value"]
        assert metrics["pd_tiny"]["value"] > best["pd_tiny"]["value"]
        assert metrics["ssim_uniform7"]["value"] < best["ssim_uniform7"]["value"] == pytest.approx(1)


def test_sharpness_tells_blur_from_noise(reconstructed):
    scores = {name: entry["metrics"]["sharpness"]["value"] for name, entry in reconstructed["decoders"].items()}
    assert scores["blurred"] < 0.5 < scores["same"] == 1 < scores["noisy"]


def test_identical_images_have_no_psnr_and_are_counted(reconstructed):
    metric = reconstructed["decoders"]["same"]["metrics"]["psnr"]
    assert metric["value"] is None
    assert metric["excluded"] == 24
    assert reconstructed["decoders"]["same"]["per_image"]["psnr"] == [None] * 24


def test_differences_are_paired_with_the_first_decoder(reconstructed):
    assert set(reconstructed["differences"]) == {"noisy - blurred", "same - blurred"}
    gap = reconstructed["differences"]["noisy - blurred"]["metrics"]["psnr"]
    scores = {name: entry["metrics"]["psnr"]["value"] for name, entry in reconstructed["decoders"].items()}
    assert gap["value"] == pytest.approx(scores["noisy"] - scores["blurred"])
    assert gap["low"] < gap["value"] < gap["high"]


def test_generation_reports_sets_and_agreement(generated):
    metrics = generated["decoders"]["same"]["metrics"]
    assert metrics["fd_tiny"]["value"] == pytest.approx(0, abs=1e-9)
    assert metrics["coverage"]["value"] == 1
    assert metrics["kd_tiny"]["low"] is None
    agreement = generated["decoders"]["same"]["agreement"]
    assert {task: entry["n"] for task, entry in agreement["tasks"].items()} == {"single": 12, "counting": 12}
    assert "agreement" in generated["differences"]["same - blurred"]["metrics"]


def test_tables_show_values_intervals_directions_and_provenance(reconstructed, generated, tmp_path):
    text = tables.markdown(reconstructed)
    assert text.startswith(
        "| decoder | PSNR (dB) ↑ | SSIM-uniform7 ↑ | SSIM-gaussian11 ↑ | PD-tiny ↓ | sharpness → 1 | FD-tiny ↓ |"
    )
    value = reconstructed["decoders"]["blurred"]["metrics"]["psnr"]
    assert f"| blurred | {value['value']:.2f} [{value['low']:.2f}, {value['high']:.2f}] |" in text
    assert "| same | – |" in text
    assert "N = 24; seed 0" in text
    assert "Prompt agreement" in tables.markdown(generated)
    tables.save(generated, tmp_path)
    assert json.loads((tmp_path / "results.json").read_text()) == generated
    assert (tmp_path / "results.md").read_text() == tables.markdown(generated)


@pytest.mark.parametrize(
    ("numbers", "written"),
    [
        ((24.123, 23.9, 24.4), "24.12 [23.90, 24.40]"),
        ((0.00123, 0.0011, 0.00135), "0.00123 [0.00110, 0.00135]"),
        ((-3.4e-07, None, None), "-0.000000340"),
        ((1.0, 1.0, 1.0), "1.000 [1.000, 1.000]"),
        ((0.0, None, None), "0.000"),
        ((None, None, None), "–"),
    ],
)
def test_numbers_have_as_many_digits_as_are_worth_reading(numbers, written):
    assert tables.cell(dict(zip(("value", "low", "high"), numbers))) == written


def test_an_id_that_comes_twice_is_refused(images, extractor):
    with pytest.raises(ValueError, match="'a' came twice"):
        reconstruction([(["a", "a"], images[:2])], {"same": same}, extractor)


def test_a_reference_seen_by_another_net_is_refused(images, extractor):
    reference = collect(dealt(images, 8), extractor)
    other = Extractor(TinyNet(), "tiny")
    with torch.no_grad():
        other.net.conv.bias += 1
    with pytest.raises(ValueError, match="the reference was seen by tiny:"):
        generation(dealt(images, 8), {"same": same}, other, reference)


def test_an_image_without_its_caption_is_refused(images, extractor):
    judge = WorldJudge(extractor.net, nouns=["dog", "cat"], colours=[None, "red"], backgrounds=["grass", "sand"])
    with pytest.raises(ValueError, match="image 'image-0' should show"):
        generation(
            dealt(images, 8), {"same": same}, extractor, collect(dealt(images, 8), extractor), judge=judge, asked={}
        )


def test_no_images_are_refused(extractor):
    with pytest.raises(ValueError, match="at least two images, got 0"):
        reconstruction([], {"same": same}, extractor)


def test_item_seeds_depend_on_the_id_and_the_base_seed_alone():
    assert item_seed(0, "a") == item_seed(0, "a")
    assert len({item_seed(0, "a"), item_seed(0, "b"), item_seed(1, "a")}) == 3
    assert item_seed(0, "a") < 2**63
