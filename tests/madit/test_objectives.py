"""The two stages: what reaches which weights, what is logged, and that eight images are learnt."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from detokenizers.madit.conditions import Conditions, matched_sharpness
from detokenizers.madit.distributions import Both, widened
from detokenizers.madit.heads import Full, Regression
from detokenizers.madit.objectives import MaskConfig, QuantiserSchedule, Running, StageOne, StageTwo
from detokenizers.madit.orders import ConstantWeight
from detokenizers.madit.tokenizer import BorrowedConfig
from detokenizers.nn.codebook import IBQ, SimVQ
from detokenizers.protocols import VisualTokens
from detokenizers.seeds import item_seeds
from detokenizers.training.draws import uniform
from detokenizers.training.optimizers import Muon
from detokenizers.training.train_settings import TrainConfig, lr_factor

from . import tiny

NO_DROPS = MaskConfig(drop=0.0, drop_text=0.0)


def batch_of(codes, count: int = 8, seed: int = 11, first: int = 0) -> dict[str, torch.Tensor]:
    read = codes.read(tiny.images(count, seed))
    return {"patches": read.patches, "kl": read.kl, "seeds": item_seeds(0, first, count)}


def fresh(vae, *, stride: int = 1, text: str = "none", codes: int = 12, **changes):
    made = tiny.tokenizer(vae, stride=stride, codes=codes)
    model = tiny.model(made, text=text, live=False, **changes).requires_grad_(True)
    model.codes.space.requires_grad_(False)
    return model


def worded(batch, *rows):
    return batch | {"words": torch.tensor([list(row) for row in rows])}


def test_the_masked_set_is_the_item_s_own_and_the_ratio_the_step_s(vae):
    model = fresh(vae)
    objective = StageOne(model, MaskConfig(full=0.0))
    batch = batch_of(model.codes)
    sizes = set()
    for step in range(60):
        objective.step.fill_(step)
        where = objective.hide(batch)
        assert where.masked.shape[1] + where.visible.shape[1] == 16
        assert torch.cat([where.masked, where.visible], 1).sort().values.tolist() == [list(range(16))] * 8
        sizes.add(where.masked.shape[1])
    assert sizes == {12, 13, 14, 15, 16}, "from the ceiling of .7 of 16 to all of them"
    assert len({tuple(row) for row in where.masked.tolist()}) > 1
    one_item = {name: value[3:4] for name, value in batch.items()}
    assert objective.hide(one_item).masked.tolist() == [where.masked[3].tolist()]
    assert objective.eval().hide(batch).masked.shape[1] == 16
    often = StageOne(fresh(vae), MaskConfig(full=0.5))
    full = 0
    for step in range(200):
        often.step.fill_(step)
        full += often.hide(batch).masked.shape[1] == 16
    assert 90 < full < 150


def test_the_regression_loss_is_of_hidden_patches_alone(vae):
    model = fresh(vae)
    objective, batch = StageOne(model, NO_DROPS), batch_of(model.codes)
    objective.step.fill_(next(step for step in range(50) if _masked_at(objective, batch, step) == 12))
    where = objective.hide(batch)
    features = model.codes.quantiser(model.codes.vectors(batch["patches"])).codes
    context = model.trunk(features, batch["patches"], where.visible, wanted=where.masked)
    truth = torch.stack([batch["patches"][i][where.masked[i]] for i in range(8)])
    expected = (model.head.coarse(context) - truth).square().mean()
    torch.testing.assert_close(objective(batch)["mse"], expected)
    assert where.masked.shape == (8, 12)


def _masked_at(objective, batch, step: int) -> int:
    objective.step.fill_(step)
    return objective.hide(batch).masked.shape[1]


@pytest.mark.parametrize("rule", [None, SimVQ(), IBQ(temperature=0.2)], ids=["ema", "simvq", "ibq"])
def test_the_regression_reaches_the_adapter_and_each_rule_moves_its_codes(vae, rule):
    model = fresh(vae)
    if rule is not None:
        model.codes.quantiser = rule.build(12, 6, 0.25)
    objective, batch = StageOne(model, NO_DROPS), batch_of(model.codes)
    before = model.codes.codebook.clone()
    optimizer = torch.optim.SGD([p for p in objective.parameters() if p.requires_grad], lr=0.5)
    terms = objective(batch)
    terms["loss"].backward()
    assert model.codes.adapter[1].weight.grad.abs().sum() > 0
    optimizer.step()
    assert not torch.equal(model.codes.codebook, before)
    assert all(parameter.grad is None for parameter in model.codes.space.parameters())
    assert all(parameter.grad is None for parameter in model.head.net.parameters())


def test_the_running_kl_follows_and_forgets_codes_that_restart(vae):
    model = fresh(vae)
    objective, batch = StageOne(model), batch_of(model.codes)
    known = model.codes.codewords.kl.clone()
    ids = model.codes.ids(batch)
    objective(batch)
    code = int(ids[0, 0])
    mean = model.codes.layout.by_token(batch["kl"])[ids == code].mean(0)
    torch.testing.assert_close(model.codes.codewords.kl[code], 0.99 * known[code] + 0.01 * mean)
    model.codes.quantiser.count.zero_()
    model.codes.quantiser.age.fill_(100)
    model.codes.quantiser.config = model.codes.quantiser.config.vary({"restarts.below": 1e9})
    ids = model.codes.ids(batch)
    code = int(ids[0, 0])
    mean = model.codes.layout.by_token(batch["kl"])[ids == code].mean(0)
    seen = model.codes.codewords.seen
    objective(batch)
    # All restarted and were forgotten; then the means of the codes that this batch had came in at first sight.
    assert torch.equal(seen.nonzero().flatten(), ids.unique())
    torch.testing.assert_close(model.codes.codewords.kl[code], mean)
    assert model.codes.codewords.kl[~seen].abs().sum() == 0


def test_vectors_pass_unrounded_until_codes_begin_as_their_clusters(vae):
    model = fresh(vae)
    schedule = QuantiserSchedule(unquantised=3, collect=200)
    objective, batch = StageOne(model, NO_DROPS, schedule), batch_of(model.codes)
    before = model.codes.codebook.clone()
    for _ in range(3):
        assert objective(batch)["quantiser"] == 0
    assert torch.equal(model.codes.codebook, before)
    assert (objective.recent.norm(dim=-1) > 0.9).all()
    assert objective(batch)["quantiser"] > 0
    assert not torch.allclose(model.codes.codebook, before, atol=1e-2)
    cosines = F.normalize(model.codes.vectors(batch["patches"]), dim=-1).flatten(0, 1) @ model.codes.codebook.T
    assert cosines.amax(1).mean() > 0.9


def test_codes_stay_where_they_are_once_frozen(vae):
    model = fresh(vae)
    objective, batch = StageOne(model, schedule=QuantiserSchedule(frozen=1)), batch_of(model.codes)
    objective(batch)
    kept = {name: value.clone() for name, value in model.codes.quantiser.state_dict().items()}
    objective(batch)
    assert all(torch.equal(value, kept[name]) for name, value in model.codes.quantiser.state_dict().items())


def test_evaluation_moves_nothing(vae):
    model = fresh(vae)
    objective, batch = StageOne(model).eval(), batch_of(model.codes)
    kept = {name: value.clone() for name, value in objective.state_dict().items()}
    first, second = objective(batch)["loss"], objective(batch)["loss"]
    assert torch.equal(first, second)
    assert all(
        torch.equal(value, kept[name]) for name, value in objective.state_dict().items() if value.isfinite().all()
    )


def test_dropped_items_are_logged_apart(vae):
    running = Running("a", "b", decay=0.5)
    assert running.known() == {"a": 0, "b": 0}
    running.update("a", torch.tensor([2.0, 4.0]))
    running.update("a", torch.tensor([]))
    running.update("a", torch.tensor([5.0]))
    assert float(running.known()["a"]) == 4.0
    model = fresh(vae)
    objective, batch = StageOne(model, MaskConfig(drop=0.5)), batch_of(model.codes)
    terms = objective(batch)
    dropped = torch.tensor([1.0]) if terms["mse_dropped"] > 0 else torch.tensor([])
    assert dropped.numel()
    share = _dropped_share(batch)
    mixed = share * terms["mse_dropped"] + (1 - share) * terms["mse_kept"]
    torch.testing.assert_close(mixed, terms["mse"].detach())


def _dropped_share(batch) -> float:
    return float((uniform(batch, "dropped condition", 1) < 0.5).float().mean())


def test_an_item_s_loss_does_not_depend_on_its_batch(vae):
    model = fresh(vae, text="encoder_decoder")
    objective = StageTwo(model, MaskConfig(full=1.0))
    batch = worded(batch_of(model.codes, 4), (0, 1), (2, -1), (3, 3), (-1, -1))
    whole = objective(batch)["loss"]
    parts = []
    for i in (0, 2):
        objective.step.zero_()
        parts.append(objective({name: value[i : i + 2] for name, value in batch.items()})["loss"])
    torch.testing.assert_close(torch.stack(parts).mean(), whole, atol=1e-5, rtol=1e-4)


def test_a_flow_that_is_zero_starts_at_the_regression_loss(vae):
    model = fresh(vae)
    terms = StageTwo(model, repeats=2)(batch_of(model.codes))
    torch.testing.assert_close(terms["flow"], terms["mse"])
    full = fresh(vae, **{"head.velocity": Full()})
    batch = batch_of(full.codes, 64)
    terms = StageTwo(full, repeats=4)(batch)
    expected = 1 + float(batch["patches"].square().mean())
    assert float(terms["flow"]) == pytest.approx(expected, rel=0.05)


def test_the_flow_sees_each_hidden_patch_at_its_own_time_on_the_line_from_it_to_unit_noise(vae, monkeypatch):
    model, seen = fresh(vae), []
    monkeypatch.setattr(model.head, "output", lambda noisy, t, context, coarse: seen.append((noisy, t)) or 0 * noisy)
    batch = batch_of(model.codes, 32)
    StageTwo(model, MaskConfig(full=1.0), repeats=2)(batch)
    where = StageTwo(model, MaskConfig(full=1.0)).hide(batch)
    clean = torch.stack([row[hidden] for row, hidden in zip(batch["patches"], where.masked)])
    for noisy, t in seen:
        assert t.shape == (32, 16)
        assert len(t.unique()) == 32 * 16
        noise = (noisy - (1 - t[..., None]) * clean) / t[..., None].clamp_min(0.01)
        late = noise[t > 0.3]  # dividing by a small time enlarges what is rounded
        assert abs(float(late.mean())) < 0.05
        assert float(late.std()) == pytest.approx(1, abs=0.05)
        assert abs(float(torch.corrcoef(torch.stack([late.flatten(), clean[t > 0.3].flatten()]))[0, 1])) < 0.05
    assert not torch.equal(seen[0][0], seen[1][0])


def test_half_precision_trains_the_flow_on_the_tokens_that_are_drawn_from(vae):
    model = fresh(vae, codes=150)
    objective, batch = StageTwo(model), batch_of(model.codes, 64)
    wanted = model.codes.codebook[model.codes.ids(batch)]
    with torch.autocast("cpu", torch.bfloat16):
        others = (model.codes.units(batch) @ model.codes.codebook.T).argmax(-1)
        assert torch.equal(objective._features(batch), wanted)
    assert not torch.equal(model.codes.codebook[others], wanted)


def test_the_second_stage_leaves_codes_alone_and_its_flow_never_moves_the_coarse_patch(vae):
    model = fresh(vae)
    objective = StageTwo(model, NO_DROPS, regression=0.0)
    batch = batch_of(model.codes)
    with torch.no_grad():
        for parameter in model.head.net.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    kept = {name: value.clone() for name, value in model.codes.state_dict().items()}
    objective(batch)["loss"].backward()
    assert model.head.coarse.weight.grad is None or model.head.coarse.weight.grad.abs().sum() == 0
    assert model.trunk.mask_token.grad.abs().sum() > 0, "the context learns through the flow"
    assert all(parameter.grad is None for parameter in model.codes.parameters())
    torch.optim.SGD([p for p in objective.parameters() if p.requires_grad], lr=0.1).step()
    assert all(torch.equal(value, kept[name]) for name, value in model.codes.state_dict().items())


@pytest.mark.parametrize("text", ["none", "encoder", "encoder_decoder"])
@pytest.mark.parametrize("stage", [StageOne, StageTwo])
def test_every_weight_that_learns_is_used(vae, text, stage):
    model = fresh(vae, text=text)
    objective = stage(model, MaskConfig(ratio=(0.7, 0.7), full=0.0))
    batch = worded(batch_of(model.codes, 2), (0, 1), (-1, -1))
    objective(batch)["loss"].backward()
    unused = [name for name, weight in objective.named_parameters() if weight.requires_grad and weight.grad is None]
    assert unused == []


def test_words_that_are_dropped_or_missing_change_nothing(vae):
    model = fresh(vae, text="encoder")
    batch = batch_of(model.codes, 4)
    with_words = worded(batch, *[(0, 1)] * 4)
    objective = StageTwo(model, MaskConfig(full=1.0, drop_text=0.999, drop=0.0))
    dropped = objective(with_words)["mse"]
    objective.step.zero_()
    torch.testing.assert_close(objective(worded(batch, *[(-1, -1)] * 4))["mse"], dropped, atol=1e-5, rtol=1e-4)
    objective.masks = MaskConfig(full=1.0, drop_text=0.0, drop=0.0)
    objective.step.zero_()
    assert not torch.isclose(objective(with_words)["mse"], dropped, atol=1e-5)


def test_borrowed_codes_are_trained_on_by_their_features(vae):
    own = tiny.tokenizer(vae)
    borrowed = BorrowedConfig(space=own.config.space, image_size=16, codes=12, dim=6).build(own.space)
    borrowed.restore({"codebook": own.codebook})
    model = tiny.model(borrowed, live=False).requires_grad_(True)
    batch = batch_of(own)
    features = own.units(batch)
    same = tiny.model(own, live=False).requires_grad_(True)
    torch.testing.assert_close(
        StageTwo(model)(batch | {"features": features})["mse"], StageTwo(same)(batch)["mse"], atol=1e-5, rtol=1e-4
    )


def test_conditions_mix_decided_tokens_proxies_and_distributions_that_were_read(vae):
    codes = tiny.tokenizer(vae)
    batch = batch_of(codes, 200)
    units = codes.units(batch)
    ids = codes.quantiser.nearest(units)
    summary, decided = Both().summary(codes), Both().decided(codes, ids)
    read = torch.full_like(decided, 7.0)
    mix = Conditions(sharpness=5.0, repair=0.5)
    committed, kept = mix.mixed(summary.of, decided, codes.codebook, batch | {"observed": read}, units, ids)
    is_decided = (kept == decided).all(-1).all(-1)
    is_read = (kept == 7.0).all(-1).all(-1)
    shares = [float(kind.float().mean()) for kind in (is_decided, is_read)]
    assert shares == pytest.approx([0.3, 0.4], abs=0.1)
    assert torch.equal(committed[is_decided | is_read], ids[is_decided | is_read])
    proxies = ~(is_decided | is_read)
    q = (5.0 * units @ codes.codebook.T).softmax(-1)
    torch.testing.assert_close(kept[proxies], summary.of(q, committed)[proxies])
    changed = float((committed[proxies] != ids[proxies]).float().mean())
    assert 0.1 < changed < 0.5
    none = Conditions(repair=0.0).mixed(summary.of, decided, codes.codebook, batch, units, ids)
    assert torch.equal(none[0], ids)


def test_proxies_are_made_as_undecided_as_a_language_model():
    torch.manual_seed(0)
    units, rows = F.normalize(torch.randn(300, 8), dim=-1), F.normalize(torch.randn(64, 8), dim=-1)
    sharpness = matched_sharpness(units, rows, 0.3)
    q = (sharpness * units @ rows.T).softmax(-1)
    assert float(torch.special.entr(q).sum(-1).mean()) / 4.1589 == pytest.approx(0.3, abs=0.005)
    with pytest.raises(ValueError, match="no sharpness from 10 to 60"):
        matched_sharpness(units, rows, 0.95, between=(10, 60))


@pytest.fixture(scope="module")
def learnt(vae):
    """Eight images, learnt in two stages."""
    torch.manual_seed(0)
    changes = {
        "trunk.width": 32,
        "head.width": 48,
        "head.blocks": 2,
        "sampling.guidance": ConstantWeight(weight=1.0),
    }
    model = fresh(vae, codes=64, **changes)
    batch = batch_of(model.codes)
    one = StageOne(model, MaskConfig(drop=0.1), QuantiserSchedule(unquantised=60, frozen=160, collect=2000))
    first = _train(one, batch, 300, 1e-2)
    stage_one_error = float(one.eval()(batch)["mse"])
    model.codes.measure([(model.codes.ids(batch), batch["patches"], batch["kl"])])
    two = StageTwo(model, MaskConfig(drop=0.1), repeats=2)
    second = _train(two, batch, 60, 3e-3)
    return model.eval(), batch, first, stage_one_error, second


def _train(objective, batch, steps: int, lr: float) -> dict[str, float]:
    config = TrainConfig(steps=steps, lr=lr, warmup=10, weight_decay=0.0, optimizer=Muon(lr=2 * lr))
    optimizers = config.optimizer.build(objective, lambda name: 1.0, config)
    terms = {}
    for step in range(steps):
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = group["peak"] * lr_factor(step, config)
        batch["seeds"] = item_seeds(1, 8 * step, 8)
        objective.zero_grad()
        terms = objective(batch)
        terms["loss"].backward()
        for optimizer in optimizers:
            optimizer.step()
    return {name: float(value.detach()) for name, value in terms.items()}


def test_eight_images_are_learnt_and_the_codebook_is_used(learnt):
    _, batch, first, error, second = learnt
    variance = float(batch["patches"].var())
    assert error < 0.05 * variance
    assert first["usage"] > 0.5
    assert second["flow"] < second["mse"]
    assert first["mse_dropped"] > 2 * first["mse_kept"], "without its tokens an image is unknown"


def test_what_was_learnt_is_drawn(learnt):
    model, batch, *_ = learnt
    ids = model.codes.ids(batch)
    tokens = VisualTokens(ids, model.codes.grid, {})
    truth = batch["patches"].flatten()
    flow = model.latents(tokens).flatten()
    assert torch.corrcoef(torch.stack([flow, truth]))[0, 1] > 0.9
    model.config = model.config.vary({"sampling.decoding": Regression()})
    regression = model.latents(tokens).flatten()
    assert torch.corrcoef(torch.stack([regression, truth]))[0, 1] > 0.9
    shuffled = VisualTokens(ids.roll(1, 0), model.codes.grid, {})
    assert torch.corrcoef(torch.stack([model.latents(shuffled).flatten(), truth]))[0, 1] < 0.7


def test_a_reader_of_distributions_begins_as_the_decoder_of_hard_tokens(vae):
    hard = fresh(vae)
    both = fresh(vae, input={"kind": "both", "conditions": {"decided": 1.0, "proxy": 0.0, "observed": 0.0}})
    state = hard.state_dict()
    state["trunk.token_in.weight"] = widened(state["trunk.token_in.weight"], 16)
    both.load_state_dict(state)
    batch = batch_of(hard.codes)
    torch.testing.assert_close(StageTwo(both)(batch)["loss"], StageTwo(hard)(batch)["loss"], atol=1e-5, rtol=1e-5)
