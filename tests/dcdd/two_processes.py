"""What `torchrun --nproc-per-node 2` runs for test_shards: the paper's recipe at tiny size, whole and in shards."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from detokenizers import checkpoint
from detokenizers.data.sources import WorldImages
from detokenizers.dcdd.condition import CondConfig
from detokenizers.dcdd.model import DCDDConfig
from detokenizers.dcdd.runs import DCDDRun
from detokenizers.pretrained.flux.inputs import NoText
from detokenizers.pretrained.flux.scope import Full
from detokenizers.pretrained.flux.transformer import PretrainedFlux
from detokenizers.pretrained.spaces import PretrainedVAE
from detokenizers.training import TrainConfig, train
from tests import stack
from tests.training.two_processes import train_in_shards

BLOCKS = "FluxTransformerBlock,FluxSingleTransformerBlock"


def run(out: Path) -> DCDDRun:
    """Released weights in bfloat16, of which attention learns in float32."""
    decoder = DCDDConfig(
        condition=CondConfig(width=8, groups=4),
        net=PretrainedFlux(name=str(out / "flux"), text=NoText(), guidance=stack.FLUX.guidance),
        space=PretrainedVAE(name="mini/vae"),
        token_stride=stack.PIXELS // 4,
    )
    return DCDDRun(
        recipe="dcdd.test",
        vlm="mini",
        images=WorldImages(world=stack.WORLD.config, count=12),
        decoder=decoder,
        new_lr_scale=10.0,
        cache=str(out / "cache"),
        train=TrainConfig(steps=3, batch_size=4, warmup=0, log_every=1, checkpointing=True),
    )


def train_fully_in_shards(row: DCDDRun, folder: Path) -> None:
    """All weights learn; writes down what the parts compute in, and the latents of the blank picture."""
    job, seen = row.job(), {}
    decoder = job.objective.dcdd.decoder

    def note(block: nn.Module, *_: object) -> None:
        seen.update(block=block.attn.to_q.weight.dtype, vae=next(decoder.space.parameters()).dtype)

    decoder.net.transformer.transformer_blocks[0].register_forward_pre_hook(note)
    train_in_shards(job, row.train, folder, BLOCKS)
    ((fill, _, _),) = decoder.net._constants.values()
    if dist.get_rank() == 0:
        (folder / "seen.json").write_text(json.dumps({name: str(dtype) for name, dtype in seen.items()}))
        checkpoint.save_tensors(folder / "fill.safetensors", {"fill": fill})


def main(out: Path, embedded: Path) -> None:
    torch.set_num_threads(1)
    checkpoint.EMBEDDED = embedded
    row = run(out)
    train(row.job(), row.train, out / "whole")
    full = run(out).vary({"decoder.scope": Full(), "train.precision": "bf16"})
    train(full.job(), full.train, out / "full whole")
    train_in_shards(row.job(), row.train, out / "shards", BLOCKS)
    train_fully_in_shards(full, out / "full shards")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
