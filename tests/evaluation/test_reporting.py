"""Whole evaluations: results are reproducible, batch-independent, strict JSON, and rendered as people read them."""

import json

import pytest

from detokenizers.data.world.scenes import parse
from detokenizers.evaluation import tables
from detokenizers.evaluation.agreement import Agreement
from detokenizers.evaluation.one_pass import TRUTH
from detokenizers.evaluation.reporting import Report
from detokenizers.evaluation.results import verdict
from detokenizers.evaluation.world_judge import WorldJudge
from detokenizers.seeds import item_seed

from .sides import Memory, TinyNet, how, numbered, originals, scored, sides

SETS = ("fd-world", "kd-world", "prdc", "agreement")


def judge(asked=None):
    made = WorldJudge(TinyNet(), nouns=["dog", "cat"], colours=[None, "red"], backgrounds=["grass", "sand"])
    plain = {id: parse("a dog on grass" if int(id[-2:]) % 2 else "two dogs on sand") for id in numbered(originals())}
    return Agreement(lambda: made, plain if asked is None else asked, "tiny")


@pytest.fixture(scope="module")
def reconstructed():
    return scored(sides())


@pytest.fixture(scope="module")
def generated():
    return scored(sides(), SETS, how=how(paired=False), judge=judge())


def test_the_result_is_strict_json_and_says_how_it_was_made(reconstructed, generated):
    for result in (reconstructed, generated):
        assert json.loads(json.dumps(result, allow_nan=False)) == result
        assert {"n", "seed", "device", "versions", "dtype", "tf32", "protocol", "hashes", "settings"} <= set(result)
        assert result["extractors"]["world"]["identity"].startswith("world:")
        assert not any("fid" in key for entry in result["decoders"].values() for key in entry["metrics"])


def test_two_runs_give_the_same_result(reconstructed):
    assert scored(sides()) == reconstructed


def test_every_picture_is_read_once():
    some = sides()
    scored(some)
    assert {side.reads for side in some.values()} == {24}


def test_every_metric_ranks_the_faithful_decoder_first(reconstructed):
    for name in ("blurred", "noisy"):
        metrics, best = reconstructed["decoders"][name]["metrics"], reconstructed["decoders"]["same"]["metrics"]
        assert metrics["fd_world"]["value"] > best["fd_world"]["value"]
        assert metrics["pd_world"]["value"] > best["pd_world"]["value"]
        assert metrics["ssim_uniform7"]["value"] < best["ssim_uniform7"]["value"] == pytest.approx(1)


def test_sharpness_tells_blur_from_noise(reconstructed):
    scores = {name: entry["metrics"]["sharpness"]["value"] for name, entry in reconstructed["decoders"].items()}
    assert scores["blurred"] < 0.5 < scores["same"] == 1 < scores["noisy"]


def test_identical_images_have_no_psnr_and_are_counted(reconstructed):
    metric = reconstructed["decoders"]["same"]["metrics"]["psnr"]
    assert metric["value"] is None
    assert metric["excluded"] == 24
    assert reconstructed["decoders"]["same"]["per_image"]["psnr"] == [None] * 24


def test_differences_are_paired_with_the_first_decoder_and_judged_by_their_interval(reconstructed):
    assert set(reconstructed["differences"]) == {"noisy - blurred", "same - blurred"}
    gap = reconstructed["differences"]["noisy - blurred"]["metrics"]["psnr"]
    scores = {name: entry["metrics"]["psnr"]["value"] for name, entry in reconstructed["decoders"].items()}
    assert gap["value"] == pytest.approx(scores["noisy"] - scores["blurred"])
    assert gap["low"] < gap["value"] < gap["high"]
    assert gap["verdict"] == "better"
    assert reconstructed["differences"]["noisy - blurred"]["metrics"]["sharpness"]["verdict"] == "more"


@pytest.mark.parametrize(
    ("low", "high", "better", "said"),
    [
        (0.1, 0.2, "higher", "better"),
        (0.1, 0.2, "lower", "worse"),
        (-0.2, -0.1, "lower", "better"),
        (-0.1, 0.2, "higher", "no difference"),
        (-0.2, -0.1, "one", "less"),
        (None, None, "lower", None),
    ],
)
def test_a_verdict_is_what_the_interval_allows(low, high, better, said):
    assert verdict({"low": low, "high": high, "better": better}) == said


def test_generation_reports_sets_and_agreement(generated):
    metrics = generated["decoders"]["same"]["metrics"]
    assert metrics["fd_world"]["value"] == pytest.approx(0, abs=1e-9)
    assert metrics["coverage"]["value"] == 1
    assert metrics["kd_world"]["low"] is None
    agreement = generated["decoders"]["same"]["agreement"]
    assert {task: entry["n"] for task, entry in agreement["tasks"].items()} == {"single": 12, "counting": 12}
    assert {"agreement", "density", "fd_world"} <= set(generated["differences"]["same - blurred"]["metrics"])


def test_what_the_judge_cannot_tell_is_counted_under_its_reason():
    asked = {id: parse("two cars on grass") for id in numbered(originals())}
    result = scored(sides(), ("agreement",), judge=judge(asked))
    assert result["decoders"]["same"]["agreement"]["not_judged"] == {"noun outside the judge's vocabulary": 24}
    assert result["decoders"]["same"]["per_image"]["agreement"] == [None] * 24


def test_an_image_without_its_caption_is_refused():
    with pytest.raises(ValueError, match="no caption for the image 'image-00'"):
        scored(sides(), ("agreement",), judge=judge({}))


def test_tables_show_values_intervals_directions_and_provenance(reconstructed, generated, tmp_path):
    text = tables.markdown(reconstructed)
    assert text.startswith(
        "| decoder | PSNR (dB) ↑ | SSIM-uniform7 ↑ | SSIM-gaussian11 ↑ | PD-world ↓ | sharpness → 1 | FD-world ↓ |"
    )
    value = reconstructed["decoders"]["blurred"]["metrics"]["psnr"]
    assert f"| blurred | {value['value']:.2f} [{value['low']:.2f}, {value['high']:.2f}] |" in text
    assert "| same | – |" in text
    assert "N = 24 against 24 real images; seed 0" in text
    assert "protocol world v2, files read as upright-on-white" in text
    assert "Prompt agreement" in tables.markdown(generated)
    Report(generated, tmp_path).save()
    assert json.loads((tmp_path / "results.json").read_text()) == generated
    assert (tmp_path / "results.md").read_text() == tables.markdown(generated)


def test_two_decoders_are_compared_metric_by_metric_with_a_verdict():
    some = sides()
    del some["same"]
    text = tables.markdown(scored(some))
    assert "Is noisy better than blurred?" in text
    assert next(line for line in text.splitlines() if line.startswith("| PSNR (dB)")).endswith("| better |")


def test_pictures_that_are_alike_are_listed_by_name():
    pictures = originals()
    copies = pictures.copy()
    copies[5] = copies[3]
    result = scored({TRUTH: Memory(numbered(pictures)), "drawn": Memory(numbered(copies))}, ("psnr",))
    assert result["troubles"]["copies"] == {"drawn": {"number": 1, "first": ["image-03 = image-05"]}}
    assert "image-03 = image-05" in tables.markdown(result)


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


def test_no_images_are_refused():
    with pytest.raises(ValueError, match="at least two pictures, got 1"):
        scored({name: Memory(numbered(originals(1))) for name in (TRUTH, "drawn")}, ("psnr",))


def test_item_seeds_depend_on_the_id_and_the_base_seed_alone():
    assert item_seed(0, "a") == item_seed(0, "a")
    assert len({item_seed(0, "a"), item_seed(0, "b"), item_seed(1, "a")}) == 3
    assert item_seed(0, "a") < 2**63
