"""What stage A and stage B learn, and through what their gradients pass."""

from __future__ import annotations

import pytest
import torch

from detokenizers.flow import FixedShift, LogitNormal
from detokenizers.flow.loss import VPrediction
from detokenizers.pretrained.vlm.text_cache import padded
from detokenizers.training import Job, TrainConfig, train
from detokenizers.training.conditioned_flow import ConditionedFlow
from detokenizers.training.flow_terms import Alignment, Perceptual
from detokenizers.training.optimizers import Muon
from detokenizers.vugen.objectives import ReducedFeatures, TowerObjective
from detokenizers.vugen.reducers import MLP, PCA
from detokenizers.vugen.tower import Tower

from .tiny import AUTOENCODER, autoencoder, feature_vlm, latents, pictures, tower, vugen

LAW = LogitNormal(shift=FixedShift())


def activations(images: torch.Tensor) -> list[torch.Tensor]:
    return [images, images[:, :, ::2, ::2].square()]


def stage_a(reducer=None, noise: float = 0.0, **settings) -> ConditionedFlow:
    built = autoencoder(feature_vlm(), AUTOENCODER if reducer is None else AUTOENCODER.vary(reducer=reducer))
    return ConditionedFlow(ReducedFeatures(built, noise), built.decoder, LAW, **settings)


def image_batch(count: int = 8) -> dict[str, torch.Tensor]:
    return {"images": pictures(count), "seeds": torch.arange(count)}


def test_all_losses_of_stage_a_reach_the_reducer_through_the_decoder():
    gradients = []
    for terms in ({}, {"perceptual": Perceptual(activations, 1.0)}):
        objective = stage_a(MLP(ratio=8), terms=terms)
        objective(image_batch())["loss"].backward()
        gradients.append(objective.condition.reducer.first.weight.grad)
        assert all(weight.grad is not None and weight.grad.any() for weight in objective.condition.reducer.parameters())
    assert (gradients[0] - gradients[1]).abs().max() > 1e-3 * gradients[0].abs().max()
    assert not any(name.startswith("vlm") for name, _ in objective.named_parameters())


def test_alignment_learns_its_own_projection_and_is_logged():
    alignment = Alignment(16, 128, lambda images: images.flatten(1).unflatten(1, (-1, 128))[:, :4], weight=0.25)
    found = stage_a(terms={"alignment": alignment})(image_batch())
    assert set(found) == {"loss", "flow", "alignment"}
    assert float(found["loss"].detach()) == pytest.approx(float(found["flow"] + found["alignment"]), rel=1e-5)
    found["loss"].backward()
    assert alignment.projection[0].weight.grad.any()


def test_a_pca_reducer_does_not_learn():
    objective = stage_a(PCA(ratio=8))
    objective(image_batch())["loss"].backward()
    assert not list(objective.condition.reducer.parameters())
    assert any(weight.grad is not None for weight in objective.decoder.parameters())


def test_noise_on_reduced_features_is_an_items_own_and_off_by_default():
    plain, noisy = stage_a(), stage_a(noise=0.8)
    assert float(plain(image_batch())["loss"].detach()) == float(plain(image_batch())["loss"].detach())
    assert float(noisy(image_batch())["loss"].detach()) != float(plain(image_batch())["loss"].detach())
    halves = [{name: x[some] for name, x in image_batch().items()} for some in (slice(4), slice(4, 8))]
    mean = sum(float(noisy(half)["loss"].detach()) for half in halves) / 2
    assert float(noisy(image_batch())["loss"].detach()) == pytest.approx(mean, rel=1e-4)


def test_the_flow_error_can_be_weighted_over_time():
    assert float(stage_a(weight=VPrediction())(image_batch())["flow"]) < float(stage_a()(image_batch())["flow"])


def test_eight_pictures_are_learnt(tmp_path):
    objective = stage_a()
    before = float(objective(image_batch())["loss"].detach())
    job = Job(objective, lambda part, size: {"images": pictures(8)}, lambda *_: None)
    train(job, TrainConfig(steps=40, batch_size=8, lr=3e-3, warmup=5, ema_decay=0), tmp_path)
    assert float(objective(image_batch())["loss"].detach()) < 0.5 * before


PROMPTS = ["a red apple", "two green dog", "the cat", "a wooden table"]


def text_batch(vlm, count: int = 4) -> dict[str, torch.Tensor]:
    ids, lengths = padded([vlm.spell(prompt) for prompt in PROMPTS[:count]], vlm.pad)
    return {"latents": latents(count), "ids": ids, "lengths": lengths, "seeds": torch.arange(count)}


def stage_b(net: Tower, vlm, **settings) -> TowerObjective:
    return TowerObjective(net, vlm.language_model, vlm.spell(""), LAW, **{"drop": 0.0, **settings})


def test_the_first_loss_is_the_variance_of_noise_and_latents():
    vlm = feature_vlm()
    batch = text_batch(vlm)
    batch = {name: x.repeat(50, *[1] * (x.ndim - 1)) for name, x in batch.items()} | {"seeds": torch.arange(200)}
    batch["latents"] = torch.randn(200, 16, 4, generator=torch.Generator().manual_seed(7))
    loss = stage_b(Tower(vlm.language_model, 4, vlm.grid), vlm)(batch)["loss"]
    assert float(loss) == pytest.approx(2.0, abs=0.05)


def test_a_prompt_matters_unless_it_is_dropped():
    vlm = feature_vlm()
    net, batch = tower(vlm), text_batch(vlm)
    other = batch | {name: batch[name].flip(0) for name in ("ids", "lengths")}
    assert float(stage_b(net, vlm)(batch)["loss"]) != float(stage_b(net, vlm)(other)["loss"])
    always = stage_b(net, vlm, drop=1.0)
    assert float(always(batch)["loss"]) == float(always(other)["loss"])
    ids, lengths = always.dropped(batch)
    assert [ids[0, : lengths[0]].tolist(), lengths.tolist()] == [vlm.spell(""), [2] * 4]


def test_dropping_is_an_items_own():
    vlm = feature_vlm()
    objective, batch = stage_b(tower(vlm), vlm, drop=0.5), text_batch(vlm)
    batch = {name: x.repeat(8, *[1] * (x.ndim - 1)) for name, x in batch.items()} | {"seeds": torch.arange(32)}
    lengths = objective.dropped(batch)[1]
    assert 4 < int((lengths == 2).sum()) < 28
    half = {name: x[16:] for name, x in batch.items()}
    assert torch.equal(objective.dropped(half)[1], lengths[16:])


def test_repa_aligns_one_layer_with_unreduced_features():
    vlm = feature_vlm()
    net = tower(vlm)
    alignment = Alignment(32, 32, lambda images: images, hidden=(8, 8), weight=0.5)
    objective = stage_b(net, vlm, alignment=alignment, layer=1)
    batch = text_batch(vlm) | {"features": torch.randn(4, 16, 32)}
    found = objective(batch)
    assert float(found["loss"].detach()) == pytest.approx(float(found["flow"] + 0.5 * found["alignment"]), rel=1e-5)
    alignment.apart(
        net.traced(batch["latents"], torch.rand(4), vlm.text_cache(PROMPTS), 1)[1], batch["features"]
    ).backward()
    reached = {name for name, weight in net.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert any(name.startswith("twin.layers.0.") for name in reached)
    assert not any(name.startswith(("twin.layers.1.", "twin.norm.", "out.")) for name in reached)
    assert "tower.out.weight" in dict(objective.named_parameters())


def test_four_prompts_are_learnt_and_told_apart(tmp_path):
    vlm = feature_vlm()
    model = vugen(vlm)
    objective, batch = stage_b(model.tower, vlm, drop=0.1), text_batch(vlm)
    repeated = {name: x.repeat(4, *[1] * (x.ndim - 1)) for name, x in batch.items() if name != "seeds"}
    config = TrainConfig(steps=200, batch_size=16, lr=3e-3, warmup=10, ema_decay=0, optimizer=Muon(lr=1e-2))
    train(Job(objective, lambda part, size: dict(repeated), lambda *_: None), config, tmp_path)
    drawn = model.latents(PROMPTS, seeds=range(4), guidance=1.0, steps=20)
    errors = (drawn[:, None] - batch["latents"][None]).square().flatten(2).mean(2)
    assert errors.diagonal().max() < 0.4
    assert torch.equal(errors.argmin(1), torch.arange(4))
