"""Which optimiser takes the steps: AdamW for all weights, or Muon for the matrices of repeated blocks beside AdamW.

objective, pace, TrainConfig -build-> [Optimizer ...], whose groups carry the `peak` of their learning rate
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import Field
from torch import nn
from torch.optim import Optimizer

from ..config import Config

if TYPE_CHECKING:
    from .job import Pace
    from .train_settings import TrainConfig


class AdamW(Config):
    """AdamW for every weight (Loshchilov and Hutter, arXiv 1711.05101)."""

    kind: Literal["adamw"] = "adamw"

    def build(self, objective: nn.Module, pace: Pace, config: TrainConfig) -> list[Optimizer]:
        return [_adamw(paced(trainable(objective), pace, config.lr), config)]


class Muon(Config):
    """Muon for the matrices of repeated blocks, AdamW with `train.lr` for all else (Jordan 2024; arXiv 2502.16982).

    Its updates are scaled to the size of AdamW's, so that the two learning rates are of one kind.
    """

    kind: Literal["muon"] = "muon"
    lr: float = Field(default=3e-3, gt=0)
    """Of the matrices."""
    momentum: float = Field(default=0.95, ge=0, lt=1)

    def build(self, objective: nn.Module, pace: Pace, config: TrainConfig) -> list[Optimizer]:
        """Two optimisers.

        Raises:
            ValueError: the objective has no matrix in a repeated block that learns.
        """
        weights, chosen = trainable(objective), matrices(objective)
        inner = {name: weight for name, weight in weights.items() if name in chosen}
        outer = {name: weight for name, weight in weights.items() if name not in chosen}
        if not inner:
            raise ValueError(
                f"{type(objective).__name__} has no matrix in repeated blocks that learns; "
                "set train.optimizer.kind to adamw"
            )
        muon = torch.optim.Muon(
            paced(inner, pace, self.lr),
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=config.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        )
        return [_adamw(paced(outer, pace, config.lr), config), muon] if outer else [muon]


OptimizerConfig = Annotated[AdamW | Muon, Field(discriminator="kind")]


def matrices(objective: nn.Module) -> set[str]:
    """Names of the weights that Muon takes: of every `nn.Linear` inside an `nn.ModuleList`.

    So embeddings, heads, biases, norms, convolutions and input layers stay with AdamW, in any architecture.
    """
    lists = tuple(f"{name}." for name, module in objective.named_modules() if isinstance(module, nn.ModuleList))
    return {
        f"{name}.weight"
        for name, module in objective.named_modules()
        if isinstance(module, nn.Linear) and name.startswith(lists)
    }


def trainable(objective: nn.Module) -> dict[str, nn.Parameter]:
    return {name: weight for name, weight in objective.named_parameters() if weight.requires_grad}


def paced(weights: dict[str, nn.Parameter], pace: Pace, lr: float) -> list[dict[str, Any]]:
    """One group per pace, with `peak` = pace x lr; each group keeps the order of the weights."""
    groups: dict[float, list[nn.Parameter]] = {}
    for name, weight in weights.items():
        groups.setdefault(pace(name), []).append(weight)
    return [{"params": members, "peak": times * lr} for times, members in groups.items()]


def _adamw(groups: list[dict[str, Any]], config: TrainConfig) -> Optimizer:
    # The fused kernel, unlike the default one, needs no temporaries as large as the weights.
    fused = torch.cuda.is_available() or None
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay, fused=fused)
