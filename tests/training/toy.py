"""A job that trains in milliseconds and has all that makes resume and splitting hard: channels-last convolutions,
frozen random layers, a buffer that moves, noise per item. `python -m tests.training.toy FOLDER SECONDS` trains it
slowly."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from detokenizers.checkpoint import save_tensors
from detokenizers.training import Job, TrainConfig, train
from detokenizers.training.draws import normal_like

CONFIG = TrainConfig(steps=12, batch_size=8, lr=1e-2, warmup=2, ema_decay=0.9, weight_decay=0.1, log_every=1)
SAVING = CONFIG.vary({"save_minutes": 0.0})
"""The same, with a state after every step."""
WEIGHTS = "toy.safetensors"


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.frozen = nn.Conv2d(width, width, 1).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(torch.tanh(self.frozen(x)))


class Judge(nn.Linear):
    """Like a model of diffusers in which nothing learns."""

    _supports_gradient_checkpointing = True

    def __init__(self) -> None:
        super().__init__(3, 3)
        self.requires_grad_(False)


class Toy(nn.Module):
    """Learns the mean colour of noisy images."""

    calls: Tensor

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList([Block(width), Block(width)])
        self.head = nn.Linear(width, 3)
        self.register_buffer("calls", torch.zeros(()))
        self.to(memory_format=torch.channels_last)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        images = batch["images"]
        noisy = (images + 0.3 * normal_like(batch, "noise", images)).contiguous(memory_format=torch.channels_last)
        x = self.stem(noisy.to(self.stem.weight.dtype))
        for block in self.blocks:
            x = block(x)
        if self.training:
            self.calls += 1
        loss = (self.head(x.mean((2, 3))).float() - images.mean((2, 3))).square().mean()
        return {"loss": loss, "root": loss.detach().sqrt()}


def images(part: int, size: int) -> dict[str, Tensor]:
    def one(item: int) -> Tensor:
        generator = torch.Generator().manual_seed(item)
        return torch.randn(3, 5, 5, generator=generator) + torch.randn(3, 1, 1, generator=generator)

    return {"images": torch.stack([one(item) for item in range(part * size, (part + 1) * size)])}


def job(width: int = 6, seed: int = 0, **changes: object) -> Job:
    torch.manual_seed(seed)

    def export(objective: nn.Module, folder: Path) -> None:
        save_tensors(folder / WEIGHTS, objective.state_dict())

    return Job(**{"objective": Toy(width), "batches": images, "export": export, **changes})


if __name__ == "__main__":
    torch.set_num_threads(1)

    def slowly(part: int, size: int) -> dict[str, Tensor]:
        time.sleep(float(sys.argv[2]))
        return images(part, size)

    train(job(batches=slowly), SAVING, Path(sys.argv[1]))
