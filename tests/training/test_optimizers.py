"""Optimisers and schedules as parts: which weights Muon takes, how far a step goes, exact resume."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from detokenizers.checkpoint import save_tensors
from detokenizers.training import Job, TrainConfig, train
from detokenizers.training.optimizers import Muon, matrices
from detokenizers.training.report import read_log
from detokenizers.training.schedules import Constant, Trapezoid
from detokenizers.training.state import whole_state
from detokenizers.training.train_settings import lr_factor

from . import toy

CONFIG = TrainConfig(
    steps=8, batch_size=4, lr=1e-2, warmup=2, log_every=1, ema_decay=0.9, optimizer=Muon(lr=2e-2), save_minutes=0.0
)
WEIGHTS = "blocks.safetensors"


class Blocks(nn.Module):
    """Embedding, two blocks with matrix, bias, norm and convolution, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(3, 6)
        self.blocks = nn.ModuleList([nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 6), nn.Tanh()) for _ in range(2)])
        self.mix = nn.ModuleList([nn.Conv1d(6, 6, 1)])
        self.table = nn.ModuleList([nn.Embedding(4, 6)])
        self.frozen = nn.ModuleList([nn.Linear(6, 6).requires_grad_(False)])
        self.head = nn.Linear(6, 3)

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        colours = batch["images"].mean((2, 3))
        x = self.stem(colours) + self.table[0].weight.mean(0)
        for block in self.blocks:
            x = x + block(x)
        x = self.frozen[0](self.mix[0](x[:, :, None])[:, :, 0])
        return {"loss": (self.head(x) - colours.flip(1)).square().mean()}


def job(seed: int = 0, **changes: object) -> Job:
    torch.manual_seed(seed)
    parts = {
        "objective": Blocks(),
        "batches": toy.images,
        "export": lambda objective, folder: save_tensors(folder / WEIGHTS, objective.state_dict()),
    }
    return Job(**{**parts, **changes})  # pyright: ignore[reportArgumentType]


def test_muon_takes_the_linear_weights_inside_module_lists_and_nothing_else():
    assert matrices(Blocks()) == {"blocks.0.1.weight", "blocks.1.1.weight", "frozen.0.weight"}


def test_every_learning_weight_has_one_optimiser_and_frozen_ones_none():
    objective = Blocks()
    adamw, muon = Muon().build(objective, lambda name: 1.0, CONFIG)
    held = [weight for optimizer in (adamw, muon) for group in optimizer.param_groups for weight in group["params"]]
    assert len(held) == len({id(weight) for weight in held})
    assert {id(weight) for weight in held} == {id(w) for w in objective.parameters() if w.requires_grad}
    assert {tuple(w.shape) for group in muon.param_groups for w in group["params"]} == {(6, 6)}


def test_a_muon_step_moves_a_matrix_as_far_as_adamw_would(tmp_path):
    """`match_rms_adamw`: the root mean square of the first update is about .2 times the learning rate, times pace."""
    part = job(pace=lambda name: 2.0 if name.startswith("blocks.1") else 1.0)
    before = {name: weight.detach().clone() for name, weight in part.objective.named_parameters()}
    train(part, CONFIG.vary({"steps": 1, "warmup": 0, "weight_decay": 0.0, "ema_decay": 0.0}), tmp_path)
    moved = {name: w.detach() - before[name] for name, w in part.objective.named_parameters()}
    for name, pace in (("blocks.0.1.weight", 1.0), ("blocks.1.1.weight", 2.0)):
        share = moved[name].square().mean().sqrt().item() / (0.2 * 2e-2 * pace)
        assert 0.4 < share < 1.2, name  # four items give a gradient of rank four at most, of six
    assert moved["head.weight"].abs().max().item() == pytest.approx(1e-2, rel=0.02)
    assert moved["frozen.0.weight"].abs().max() == 0


def test_a_killed_muon_run_goes_on_to_the_bit(tmp_path):
    def batches(part: int, size: int) -> dict[str, torch.Tensor]:
        if part == 5:
            raise KeyboardInterrupt
        return toy.images(part, size)

    with pytest.raises(KeyboardInterrupt):
        train(job(batches=batches), CONFIG, tmp_path / "killed")
    train(job(), CONFIG, tmp_path / "killed")
    train(job(), CONFIG, tmp_path / "whole")
    logs = [read_log(tmp_path / name / "log.jsonl") for name in ("killed", "whole")]
    assert [row["loss"] for row in logs[0]] == [row["loss"] for row in logs[1]]
    killed, whole = (whole_state(tmp_path / name) for name in ("killed", "whole"))
    assert killed.keys() == whole.keys()
    assert any(name.endswith("momentum_buffer") for name in whole)
    assert all(torch.equal(killed[name], whole[name]) for name in whole if ".frozen" not in name)


def test_muon_needs_a_matrix_in_a_block(tmp_path):
    with pytest.raises(ValueError, match=r"Toy has no matrix in repeated blocks .* set train.optimizer.kind to adamw"):
        train(toy.job(), CONFIG, tmp_path)


def test_a_state_of_the_other_optimiser_is_refused(tmp_path):
    train(job(), CONFIG.vary({"steps": 2, "optimizer": {"kind": "adamw"}}), tmp_path)
    with pytest.raises(ValueError, match="was saved by another model"):
        train(job(), CONFIG, tmp_path)


def test_a_trapezoid_is_flat_then_a_line_to_its_end_and_its_flat_part_knows_no_length():
    config = TrainConfig(steps=110, warmup=10, schedule=Trapezoid(decay=0.5, final=0.2))
    assert lr_factor(4, config) == pytest.approx(0.5)
    assert all(lr_factor(step, config) == 1 for step in range(9, 61))
    assert lr_factor(85, config) == pytest.approx(0.6)
    assert lr_factor(110, config) == pytest.approx(0.2)
    longer = config.vary({"steps": 1000})
    assert all(lr_factor(step, longer) == lr_factor(step, config) for step in range(61))
    assert lr_factor(1000, config.vary({"schedule": Constant()})) == 1


def test_a_run_of_before_schedules_were_parts_reads_its_cosine():
    assert TrainConfig.parse({"final_lr": 0.3}).schedule.final == 0.3  # pyright: ignore[reportAttributeAccessIssue]
