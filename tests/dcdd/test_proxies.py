"""Whose distributions a decoder is trained on: the encoder's, any, or the VLM's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from detokenizers.dcdd.calibration import Observer
from detokenizers.dcdd.lcdm import Committed, Expectation
from detokenizers.dcdd.objectives import DCDDObjective
from detokenizers.dcdd.proxies import AnySharpness, Proxy, TeacherForced
from detokenizers.seeds import item_seeds
from tests.pretrained.tiny import tiny_vlm

from . import tiny

FEATURES = F.normalize(torch.randn(6, 16, tiny.DIM, generator=torch.Generator().manual_seed(0)), dim=-1)


@pytest.fixture
def dcdd(tmp_path):
    return tiny.build(tiny.config(tmp_path / "vae").vary({"calibration.kappa": 20.0, "lcdm": Expectation()}))


def batch(first: int = 0, count: int = 6) -> dict[str, torch.Tensor]:
    latents = torch.randn(6, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    rows = slice(first, first + count)
    return {"features": FEATURES[rows], "latents": latents[rows], "seeds": item_seeds(0, first, count)}


def test_the_proxy_is_the_calibrated_distribution_of_the_encoder(dcdd):
    p = (20 * FEATURES @ tiny.codebook().T).softmax(-1)
    expected = Expectation()(p, p.argmax(-1), tiny.codebook())
    torch.testing.assert_close(Proxy()(dcdd, batch()), expected)


def test_any_sharpness_is_certain_of_a_share_of_images_and_unsure_of_the_others(dcdd):
    confidence = AnySharpness(kappa_range=(0.5, 1.0), certain=0.5)(dcdd, batch())[..., -4]
    per_image = confidence.amin(1), confidence.amax(1)
    certain = per_image[0] > 0.99
    assert 0 < certain.sum() < 6
    assert (per_image[1][~certain] < 0.3).all()
    codes = tiny.codebook()[(FEATURES @ tiny.codebook().T).argmax(-1)]
    observed = AnySharpness(kappa_range=(0.5, 1.0), certain=0.5)(dcdd, batch())
    torch.testing.assert_close(observed[certain][..., : tiny.DIM], codes[certain], atol=1e-2, rtol=1e-2)


def test_any_sharpness_stays_between_its_bounds(dcdd):
    def confidence(distribution) -> torch.Tensor:
        return distribution(dcdd, batch())[..., -4]

    low, high = (confidence(AnySharpness(kappa_range=(kappa, kappa), certain=0)) for kappa in (4.0, 64.0))
    drawn = confidence(AnySharpness(kappa_range=(4.0, 64.0), certain=0))
    assert (drawn >= low - 1e-6).all()
    assert (drawn <= high + 1e-6).all()
    assert len({f"{image:.4f}" for image in drawn.mean(1).tolist()}) == 6


def test_any_sharpness_of_one_value_is_the_proxy_of_that_calibration(dcdd):
    torch.testing.assert_close(AnySharpness(kappa_range=(20.0, 20.0), certain=0)(dcdd, batch()), Proxy()(dcdd, batch()))


def test_the_sharpness_of_an_image_does_not_depend_on_its_company(dcdd):
    distribution = AnySharpness()
    torch.testing.assert_close(distribution(dcdd, batch(2, 3)), distribution(dcdd, batch())[2:5])


@pytest.mark.parametrize("distribution", [Proxy(), AnySharpness(), TeacherForced()])
def test_two_halves_of_a_batch_give_the_gradient_of_the_whole(dcdd, distribution):
    """Noise, time and sharpness belong to the item; so processes and accumulation rounds share a batch exactly."""
    objective = DCDDObjective(dcdd, distribution=distribution)

    def gradients(*parts: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        objective.zero_grad()
        for part in parts:
            if isinstance(distribution, TeacherForced):
                part = part | {"observed": dcdd.proxy(part["features"])}
            (objective(part)["loss"] / len(parts)).backward()
        return {name: weight.grad.clone() for name, weight in objective.named_parameters() if weight.requires_grad}

    whole = gradients(batch())
    for name, gradient in gradients(batch(0, 3), batch(3, 3)).items():
        torch.testing.assert_close(gradient, whole[name], atol=1e-6, rtol=1e-4)


def test_probabilities_are_single_precision_under_autocast(dcdd, monkeypatch):
    seen = []
    encode = dcdd.encode
    monkeypatch.setattr(dcdd, "encode", lambda observed, grid: seen.append(observed) or encode(observed, grid))
    objective = DCDDObjective(dcdd)
    with torch.autocast("cpu", torch.bfloat16):
        objective(batch())
    assert seen[0].dtype == torch.float32
    torch.testing.assert_close(seen[0], dcdd.proxy(FEATURES))


def test_a_teacher_forced_distribution_is_the_vlm_s_own_while_it_sampled():
    """Sampling under a prompt and forcing the same tokens under the same prompt give a decoder the same."""
    vlm, prompts = tiny_vlm(), ["a red apple on a wooden table", "two dog and cat"]
    observe = {"lcdm": Observer(Committed(), vlm.tokenizer.codebook)}
    drawn = vlm.generate(prompts, seeds=[0, 1], guidance=3.0, observe=observe)
    read = vlm.teacher_forced(prompts, drawn.ids, observe=observe, guidance=3.0)
    torch.testing.assert_close(read.observed["lcdm"], drawn.observed["lcdm"], atol=1e-4, rtol=1e-3)
    other = vlm.teacher_forced(prompts[::-1], drawn.ids, observe=observe, guidance=3.0)
    assert (other.observed["lcdm"] - read.observed["lcdm"]).abs().max() > 0.01
