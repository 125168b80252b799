"""A student that goes in one step where its teacher goes in many."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from detokenizers.flow import FixedShift, TimeGrid, euler
from detokenizers.nn.uvit import UViT, UViTConfig
from detokenizers.pretrained.networks.lpips import LPIPS
from detokenizers.training import TrainConfig, train
from detokenizers.training.distillation import Distillation, Teacher, cached_pair, row_noise
from detokenizers.training.flow_terms import Alignment, Outcome, Perceptual, resampled, weighted
from detokenizers.training.job import Job

CONFIG = UViTConfig(condition=2, widths=(8, 16), blocks=1, heads=2, radius=1, groups=4)
GRID = TimeGrid(shift=FixedShift(), power=2.0)
SHAPE = (3, 8, 8)


def net(seed: int = 0) -> UViT:
    torch.manual_seed(seed)
    built = UViT(CONFIG)
    with torch.no_grad():
        for weight in built.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return built


def batch(count: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return {
        "images": torch.rand(count, *SHAPE, generator=generator) * 2 - 1,
        "condition": torch.randn(count, 2, 2, 2, generator=generator),
        "seeds": torch.arange(count),
        "rows": torch.arange(count),
    }


def objective(student: nn.Module, pairs, terms=None) -> Distillation:
    return Distillation(student, lambda batch: batch["condition"], pairs, terms)


def activations(images: torch.Tensor) -> list[torch.Tensor]:
    return [images, images[:, :, ::2, ::2].square()]


def test_the_teachers_times_are_those_of_the_paper():
    assert GRID(8, SHAPE).tolist() == pytest.approx(
        [1, 0.765625, 0.5625, 0.390625, 0.25, 0.140625, 0.0625, 0.015625, 0], abs=1e-7
    )


def test_a_student_of_a_one_step_teacher_starts_with_no_flow_and_no_perceptual_loss():
    teacher = net().requires_grad_(False)
    terms = {"perceptual": Perceptual(activations)}
    found = objective(copy.deepcopy(teacher), Teacher(teacher, GRID(1, SHAPE), SHAPE), terms)(batch())
    assert float(found["flow"]) < 1e-12
    assert float(found["perceptual"]) < 1e-9


def test_with_other_noise_than_the_teachers_it_would_not():
    teacher = net().requires_grad_(False)
    drawn = Teacher(teacher, GRID(1, SHAPE), SHAPE)

    def other(batch, condition):
        noise, image = drawn(batch, condition)
        return noise.flip(0), image

    assert float(objective(copy.deepcopy(teacher), other)(batch())["flow"]) > 1e-3


def test_the_teacher_is_called_once_a_step_and_gets_no_gradient():
    teacher, calls = net().requires_grad_(False), []
    teacher.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    student = net(1)
    objective(student, Teacher(teacher, GRID(8, SHAPE), SHAPE))(batch())["loss"].backward()
    assert calls == [False] * 8
    assert all(weight.grad is None for weight in teacher.parameters())
    assert any(weight.grad is not None and weight.grad.any() for weight in student.parameters())


def test_the_loss_is_the_distance_of_the_two_images():
    teacher, student, some = net().requires_grad_(False), net(1), batch()
    pairs = Teacher(teacher, GRID(4, SHAPE), SHAPE)
    noise, drawn = pairs(some, some["condition"])
    with torch.no_grad():
        image = noise - student(noise, torch.ones(2), some["condition"])
    assert float(objective(student, pairs)(some)["flow"]) == pytest.approx(
        float((image - drawn).square().mean()), rel=1e-4
    )


def test_cached_pairs_are_those_of_the_teacher():
    teacher, some = net().requires_grad_(False), batch()
    kept = Teacher(teacher, GRID(4, SHAPE), SHAPE).of_rows([0, 1], some["condition"])
    noise, drawn = cached_pair(some | {"drawn": kept}, some["condition"])
    assert torch.equal(noise, row_noise([0, 1], SHAPE))
    again = euler(lambda x, t: teacher(x, t, some["condition"]), noise, GRID(4, SHAPE))
    assert torch.allclose(drawn, again, atol=1e-6)
    assert not torch.equal(row_noise([0], SHAPE), row_noise([1], SHAPE))


def test_a_student_comes_nearer_to_its_teacher(tmp_path):
    teacher = net().requires_grad_(False)
    student = copy.deepcopy(teacher).requires_grad_(True)
    some = batch(4)
    some["drawn"] = Teacher(teacher, GRID(8, SHAPE), SHAPE).of_rows([0, 1, 2, 3], some["condition"])
    job = Job(objective(student, cached_pair), lambda part, size: dict(some), lambda *_: None)
    before = float(job.objective(some)["flow"])
    after = train(job, TrainConfig(steps=60, batch_size=4, lr=3e-3, warmup=5, ema_decay=0), tmp_path)
    assert after["flow"] < 0.2 * before


def outcome(velocity: torch.Tensor | None = None) -> Outcome:
    torch.manual_seed(0)
    clean, noise, t = torch.randn(2, *SHAPE), torch.randn(2, *SHAPE), torch.tensor([0.2, 0.7])
    along = t.view(-1, 1, 1, 1)
    noisy = (1 - along) * clean + along * noise
    velocity = noise - clean if velocity is None else velocity
    return Outcome(clean, noise, noisy, t, velocity, torch.randn(2, 4, 5), clean)


def test_a_perfect_velocity_loses_nothing_and_others_all_they_should():
    perfect = weighted(outcome(), {"perceptual": Perceptual(activations, 0.5)})
    assert float(perfect["loss"]) < 1e-6
    wrong = outcome(torch.zeros(2, *SHAPE))
    term = Perceptual(activations, 0.5)
    found = weighted(wrong, {"perceptual": term})
    flow = (wrong.noise - wrong.clean).square().mean()
    assert float(found["flow"]) == pytest.approx(float(flow), rel=1e-5)
    assert float(found["perceptual"]) == pytest.approx(
        0.5 * float(term.between(wrong.noisy, wrong.clean).mean()), rel=1e-5
    )
    assert float(found["loss"]) == pytest.approx(float(found["flow"] + found["perceptual"]), rel=1e-6)


def test_with_the_weights_of_lpips_the_perceptual_distance_is_lpips():
    torch.manual_seed(0)
    lpips, a, b = LPIPS("alex"), torch.rand(2, 3, 64, 64) * 2 - 1, torch.rand(2, 3, 64, 64) * 2 - 1
    term = Perceptual(lpips.activations, channel_weights=[lpips.get_buffer(f"weight{i}") for i in range(5)])
    assert torch.allclose(term.between(a, b), lpips.between(a, b), rtol=1e-3)


def test_blank_images_have_a_perceptual_gradient():
    drawn = torch.zeros(1, 3, 4, 4, requires_grad=True)
    Perceptual(activations).between(drawn, torch.ones(1, 3, 4, 4)).sum().backward()
    assert drawn.grad is not None
    assert torch.isfinite(drawn.grad).all()


def test_aligned_features_lose_nothing_opposite_ones_twice_the_weight():
    term = Alignment(5, 5, lambda images: images, weight=0.25)
    term.projection = nn.Identity()
    one = outcome()
    assert float(term(one._replace(images=one.features))) == pytest.approx(0, abs=1e-6)
    assert float(term(one._replace(images=-one.features))) == pytest.approx(0.5, abs=1e-6)


def test_patch_features_of_another_raster_are_resampled():
    maps = torch.arange(16.0).view(1, 16, 1)
    assert torch.equal(resampled(maps, 16), maps)
    small = resampled(maps, 4).flatten().tolist()
    assert small == sorted(small)
    assert len(small) == 4
    term = Alignment(5, 1, lambda images: maps.expand(2, -1, -1))
    assert torch.isfinite(term(outcome()))
