"""The tokenizer's adversary: whose gradient goes where, how loud it is, and that it can tell real from drawn."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from detokenizers.mini.adversarial import Adversary, AdversaryConfig
from detokenizers.mini.runs import TokenizerRun
from detokenizers.mini.tokenizer_objective import TokenizerObjective
from detokenizers.pretrained.vq_weights import build_vq
from tests import stack
from tests.mini.test_objectives import IMAGES, judge, learn

SMALL = AdversaryConfig(width=8, strides=2, start=0, weight=0.5)


@pytest.fixture
def adversary() -> Adversary:
    torch.manual_seed(0)
    return Adversary(SMALL)


@pytest.fixture
def drawer() -> nn.Conv2d:
    torch.manual_seed(1)
    return nn.Conv2d(3, 3, 3, padding=1)


def grads(module: nn.Module) -> list[torch.Tensor | None]:
    return [weight.grad for weight in module.parameters()]


def test_the_critic_s_loss_moves_the_critic_alone(adversary, drawer):
    adversary.critic_loss(drawer(IMAGES), IMAGES).backward()
    assert all(grad is None for grad in grads(drawer))
    assert all(grad is not None for grad in grads(adversary))
    assert sum(grad.abs().sum() for grad in grads(adversary)) > 0


def test_the_drawer_s_loss_passes_through_the_critic_and_does_not_move_it(adversary, drawer):
    adversary.drawer_loss(drawer(IMAGES)).backward()
    assert all(grad is None for grad in grads(adversary))
    assert all(grad is not None and grad.abs().sum() > 0 for grad in grads(drawer))


def test_the_hinge_is_nothing_where_the_critic_is_sure(adversary):
    with torch.no_grad():
        adversary.patches[-1].weight.zero_()
        adversary.patches[-1].bias.fill_(2.0)
    assert adversary.critic_loss(IMAGES, IMAGES).item() == pytest.approx(1.5)
    assert adversary.drawer_loss(IMAGES).item() == pytest.approx(-2.0)


def test_balanced_losses_pull_the_last_layer_in_the_given_proportion(adversary, drawer):
    drawn = drawer(IMAGES)
    others, adversarial = (drawn - IMAGES).abs().mean(), adversary.drawer_loss(drawn)
    balanced = adversary.balance(others, adversarial, drawer.weight) * adversarial
    ours, theirs = (
        torch.autograd.grad(loss, drawer.weight, retain_graph=True)[0].norm() for loss in (balanced, others)
    )
    assert float(ours / theirs) == pytest.approx(SMALL.weight, rel=0.05)


def test_until_its_start_only_the_critic_learns(drawer):
    adversary = Adversary(SMALL.vary(start=1))
    drawn = drawer(IMAGES)
    others = (drawn - IMAGES).abs().mean()
    _, first = adversary.terms(others, drawn, IMAGES, drawer.weight)
    _, second = adversary.terms(others, drawn, IMAGES, drawer.weight)
    assert first["adversarial"] == 0
    assert second["adversarial"] != 0


def test_the_critic_separates_patches_after_a_few_steps(adversary):
    drawn = torch.nn.functional.avg_pool2d(IMAGES, 5, 1, 2)
    optimizer = torch.optim.AdamW(adversary.parameters(), lr=3e-3)
    for _ in range(60):
        loss = adversary.critic_loss(drawn, IMAGES)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.3
    assert adversary(IMAGES).mean() > adversary(drawn).mean() + 1


def test_a_tokenizer_learns_beside_its_adversary():
    torch.manual_seed(0)
    vq = build_vq(stack.JANUS.vary({"codebook": 16}))
    objective = TokenizerObjective(vq, judge(), warmup=20, adversary=Adversary(SMALL.vary(start=10)))
    first, last = learn(objective, {"images": IMAGES}, 60, lr=3e-3)
    assert first["adversarial"] == 0 != last["adversarial"]
    assert last["pixels"] < 0.85 * first["pixels"]
    assert objective.adversary.step == 60


def test_a_run_gives_the_critic_its_own_pace(tmp_path, embedded):
    run = TokenizerRun(recipe="mini.tokenizer", size=stack.JANUS, world=stack.WORLD.config, adversary=SMALL)
    job = run.job()
    names = [name for name, _ in job.objective.named_parameters()]
    assert {job.pace(name) for name in names if name.startswith("adversary.")} == {SMALL.pace}
    assert {job.pace(name) for name in names if not name.startswith("adversary.")} == {1.0}


def test_no_weight_means_no_adversary():
    assert AdversaryConfig().build() is None
    assert not any(
        "adversary" in name for name, _ in TokenizerObjective(build_vq(stack.JANUS), judge()).named_modules()
    )
