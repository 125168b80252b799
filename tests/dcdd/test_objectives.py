"""The objective is Eq. 26 on proxies; it learns to follow the condition (spec F8, F9, F11)."""

import pytest
import torch
import torch.nn.functional as F

from detokenizers.dcdd.objectives import DCDDObjective
from detokenizers.flow import Cosmap, FluxShift, Uniform, VPrediction, interpolate
from detokenizers.pretrained.flux.scope import Attention, Full

from . import tiny


@pytest.fixture
def settings(tmp_path):
    return tiny.config(tmp_path / "vae").vary({"calibration.kappa": 20.0})


def batch(size: int = 4) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(7)
    features = F.normalize(torch.randn(size, 16, tiny.DIM, generator=draw), dim=-1)
    return {"latents": torch.randn(size, 4, 8, 8, generator=draw), "features": features}


def fixed(size: int = 4) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(8)
    return {"noise": torch.randn(size, 4, 8, 8, generator=draw), "t": torch.linspace(0.1, 0.9, size)}


def test_the_loss_is_the_mean_squared_velocity_error(settings):
    dcdd = tiny.build(settings)
    data = batch() | fixed()
    condition = dcdd.encode(dcdd.proxy(data["features"]), tiny.GRID)
    predicted = dcdd.decoder.net(interpolate(data["latents"], data["noise"], data["t"]), data["t"], condition)
    expected = F.mse_loss(predicted, data["noise"] - data["latents"])
    terms = DCDDObjective(dcdd)(data)
    torch.testing.assert_close(terms["loss"], expected)
    torch.testing.assert_close(terms["error"], expected.detach())


@pytest.mark.parametrize("weight", [VPrediction(), Cosmap()])
def test_a_weight_multiplies_each_item_by_its_time(settings, weight):
    dcdd = tiny.build(settings)
    data = batch(1) | {"noise": fixed()["noise"][:1], "t": torch.tensor([0.3])}
    terms = DCDDObjective(dcdd, weight=weight)(data)
    torch.testing.assert_close(terms["loss"].detach(), terms["error"] * weight(data["t"])[0])


def test_features_read_beforehand_give_the_same_loss(settings):
    dcdd = tiny.build(settings)
    objective, data = DCDDObjective(dcdd), batch() | fixed()
    ready = {name: value for name, value in data.items() if name != "features"} | {
        "observed": dcdd.proxy(data["features"])
    }
    torch.testing.assert_close(objective(ready)["loss"], objective(data)["loss"])


def test_the_draws_follow_the_seed_and_nothing_else(settings):
    objective, losses = DCDDObjective(tiny.build(settings), time_law=Uniform()), []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        losses.append(objective(batch())["loss"].item())
    assert losses[0] == losses[1] != losses[2]


def test_times_are_drawn_by_the_law_for_the_shape_of_one_item(settings):
    """Once an item, so that a batch may be split."""
    asked, data = [], batch()

    def law(count, shape, *, generator):
        asked.append((count, tuple(shape)))
        return torch.full((count,), 0.1 * len(asked))

    objective = DCDDObjective(tiny.build(settings), time_law=law)
    data["noise"] = fixed()["noise"]
    drawn = objective(data)["loss"]
    assert asked == [(1, (4, 8, 8))] * 4
    torch.testing.assert_close(drawn, objective(data | {"t": torch.tensor([0.1, 0.2, 0.3, 0.4])})["loss"])


def test_times_are_logit_normal_around_flux_s_shift_unless_given_otherwise(settings):
    seen = []
    objective = DCDDObjective(tiny.build(settings), weight=lambda t: seen.append(t) or torch.ones_like(t))
    with torch.no_grad():
        objective(batch(512) | {"seeds": torch.arange(512)})
    logits = seen[0].logit()
    assert logits.mean().item() == pytest.approx(FluxShift()((4, 8, 8)), abs=0.15)
    assert logits.std().item() == pytest.approx(1, abs=0.1)


def test_the_condition_encoder_learns_from_the_second_step_on(settings):
    torch.manual_seed(0)
    dcdd = settings.build(tiny.codebook())
    columns, objective = dcdd.decoder.net.transformer.x_embedder.condition.weight, DCDDObjective(dcdd)
    objective(batch())["loss"].backward()
    assert columns.grad.abs().sum() > 0
    assert dcdd.encoder.fc.weight.grad.abs().sum() == 0
    with torch.no_grad():
        columns -= 0.1 * columns.grad
    objective(batch())["loss"].backward()
    assert dcdd.encoder.fc.weight.grad.abs().sum() > 0


def test_only_attention_and_condition_learn_by_default(settings):
    dcdd = tiny.build(settings.vary(scope=Attention()))
    names = {name for name, parameter in dcdd.named_parameters() if parameter.requires_grad}
    assert any(name.startswith("encoder.") for name in names)
    assert all(".attn." in name or name.startswith("encoder.") or "x_embedder.condition" in name for name in names)


@pytest.mark.parametrize(("scope", "steps", "remains"), [(Attention(), 60, 0.8), (Full(), 40, 0.8)])
def test_four_latents_are_learnt_and_told_apart_by_their_condition(settings, scope, steps, remains):
    torch.manual_seed(0)
    dcdd = settings.vary(scope=scope).build(tiny.codebook())
    objective, data = DCDDObjective(dcdd, time_law=Uniform()), batch()
    data["observed"] = dcdd.proxy(data.pop("features"))
    probe = {name: value.repeat(4, *(1,) * (value.ndim - 1)) for name, value in data.items()} | fixed(16)
    rolled = probe | {"observed": probe["observed"].roll(1, 0)}
    optimizer = torch.optim.AdamW([p for p in dcdd.parameters() if p.requires_grad], lr=3e-3)
    before = objective(probe)["error"]
    for _ in range(steps):
        optimizer.zero_grad()
        objective(data)["loss"].backward()
        optimizer.step()
    with torch.no_grad():
        after, confused = objective(probe)["error"], objective(rolled)["error"]
    assert after < remains * before
    assert confused > 1.2 * after
