"""The tokenizer's objective over a VQ of a few convolutions, for tests that start processes: no heavy imports."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from detokenizers.checkpoint import save_tensors
from detokenizers.mini.tokenizer_objective import TokenizerObjective
from detokenizers.nn.codebook import Averages, Restarts
from detokenizers.nn.world_net import WorldNet, WorldNetConfig
from detokenizers.training import Job, TrainConfig

from .toy import images

CONFIG = TrainConfig(steps=8, batch_size=8, lr=1e-2, warmup=0, ema_decay=0.0, log_every=1)
WEIGHTS = "tokenizer.safetensors"


class TinyVQ(nn.Module):
    def __init__(self, codes: int = 12, dim: int = 4) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(3, 8, 3, padding=1)
        self.quant_conv = nn.Conv2d(8, dim, 1)
        self.quantize = nn.Module()
        self.quantize.embedding = nn.Embedding(codes, dim)
        self.post_quant_conv = nn.Conv2d(dim, 8, 1)
        self.decoder = nn.Conv2d(8, 3, 3, padding=1)


def job(seed: int = 0) -> Job:
    torch.manual_seed(seed)
    judge = WorldNet(WorldNetConfig(nouns=2, colours=2, backgrounds=2, resolution=8, widths=(4, 8)))
    objective = TokenizerObjective(
        TinyVQ(), judge, warmup=3, rule=Averages(decay=0.98, restarts=Restarts(below=0.3, age=0))
    )

    def export(module: nn.Module, folder: Path) -> None:
        save_tensors(folder / WEIGHTS, module.state_dict())

    return Job(objective, images, export)
