"""LlamaGen text-to-image, frozen: T5 captions in, image tokens out, through the same token loop as Janus.

Three things make it unlike a plain Llama: its prefix is 120 projected caption features; its unconditional twin is a
learnt prefix; and positions turn in two dimensions over the image, while the prefix has no position at all (its rotary
factors are zero, so its keys and queries vanish).

caption features -project-> prefix [cond; uncond] -token loop, 2-D rotary-> VisualTokens(ids, observed).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers import JanusVQVAE, LlamaConfig, LlamaModel

from ...checkpoint import load_strictly
from ..vq import JanusVQ
from ..vq_weights import VQSize, build_vq
from ..weights.formats import tensors_in
from ..weights.llamagen_files import gpt_tensors, vq_tensors
from .llama_blocks import Angles, LlamaBlocks
from .step_graphs import fused
from .t5_captions import CaptionEncoder, T5Captions
from .token_loop import Prefix, TokenLoop, TokenParts
from .token_vlm import LlamaTokenVLM
from .transformer_size import TransformerSize


class LlamaGenSize(TransformerSize, VQSize):
    """The numbers of one LlamaGen text-to-image GPT and its VQ."""

    hidden: int = 1280
    layers: int = 36
    heads: int = 20
    intermediate: int | None = 3584
    grid: int = 16
    """Side of the token raster: 16 at 256 px, 32 at 512 px."""
    codebook: int = 16384
    """Codes of the visual tokenizer."""
    caption_dim: int = 2048
    """Width of the caption features (flan-t5-xl)."""
    caption_length: int = 120
    """Positions of the prefix."""


STAGES = {"t2i_XL_stage1_256": LlamaGenSize(), "t2i_XL_stage2_512": LlamaGenSize(grid=32)}
"""The official text-to-image checkpoints."""
TEXT_ENCODER = "flan-t5-xl"


class CaptionProjection(nn.Module):
    """Caption features to prefix columns; and the learnt prefix of no caption."""

    def __init__(self, size: LlamaGenSize) -> None:
        super().__init__()
        self.fc1 = nn.Linear(size.caption_dim, size.hidden, bias=False)
        self.fc2 = nn.Linear(size.hidden, size.hidden, bias=False)
        self.uncond = nn.Buffer(torch.zeros(size.caption_length, size.caption_dim))

    def forward(self, features: Float[Tensor, "r l c"]) -> Float[Tensor, "r l h"]:
        return self.fc2(F.gelu(self.fc1(features), approximate="tanh"))


class LlamaGen(nn.Module):
    """The weights of a LlamaGen GPT: caption projection, Llama blocks, output layer."""

    def __init__(self, size: LlamaGenSize) -> None:
        super().__init__()
        self.size = size
        self.caption = CaptionProjection(size)
        config = LlamaConfig(
            **size.blocks(),
            vocab_size=size.codebook,
            max_position_embeddings=size.caption_length + size.grid**2,
            rms_norm_eps=1e-5,
            pad_token_id=None,
            bos_token_id=None,
            eos_token_id=None,
        )
        self.llama = LlamaModel(config)
        self.llama.rotary_emb = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]  (see `raster_angles`)
        self.output = nn.Linear(size.hidden, size.codebook, bias=False)


def official_vq(folder: Path, size: LlamaGenSize) -> JanusVQVAE:
    """The visual tokenizer from its official file, `vq_ds16_t2i.pt`, without the GPT."""
    path = folder / "vq_ds16_t2i.pt"
    with torch.device("meta"):
        vq = build_vq(size)
    load_strictly(vq, vq_tensors(tensors_in(path)), path)
    return vq


def raster_angles(size: LlamaGenSize, length: int, like: Tensor) -> Angles:
    """Rotary factors of the prefix, all zero, then of the raster: the first half of a head turns with the row, the
    second with the column."""
    pairs = size.hidden // size.heads // 2
    speeds = 10000.0 ** -(torch.arange(pairs // 2) * 2 / pairs)
    position = torch.arange(size.grid**2)
    turn = torch.cat([(position // size.grid)[:, None] * speeds, (position % size.grid)[:, None] * speeds], -1)
    blank = torch.zeros(size.caption_length, pairs)
    cos, sin = torch.cat([blank, turn.cos()])[:length], torch.cat([blank, turn.sin()])[:length]
    return Angles.of(torch.cat([cos, cos], -1).to(like), torch.cat([sin, sin], -1).to(like))


class LlamaGenVLM(LlamaTokenVLM):
    """A frozen `TokenVLM` over LlamaGen; its output layer and VQ are kept in fp32.

    Args:
        model: the GPT.
        vq: the visual tokenizer's network.
        captions: where caption features come from.
        compile: capture the decode step as one CUDA graph.
    """

    fp32 = ("tokenizer", "model.output")
    guidance = 7.5
    # PAPER GAP (docs/dcdd.md#filtered-distributions): not stated whether these are cut to them; ours are not.
    top_k = 1000

    def __init__(self, model: LlamaGen, vq: JanusVQVAE, captions: CaptionEncoder, *, compile: bool = False) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = JanusVQ(vq.float())
        self.captions = captions
        output = model.output.float()
        blocks = LlamaBlocks(model.llama)
        parts = TokenParts(
            blocks=blocks,
            angles=lambda length: raster_angles(model.size, length, blocks.weight),
            embed=model.llama.embed_tokens,
            lift=lambda hidden: hidden.float(),
            project=output,
        )
        self.loop = TokenLoop(parts, self.tokenizer.grid.size, fused if compile else None)

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        *,
        stage: str = "t2i_XL_stage1_256",
        size: LlamaGenSize | None = None,
        captions: CaptionEncoder | None = None,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        compile: bool = False,
    ) -> Self:
        """Load official files: `STAGE.pt`, `vq_ds16_t2i.pt` and, unless `captions` is given, the folder `flan-t5-xl`.

        Raises:
            ValueError: an unknown stage, a missing or damaged file, tensors that are missing or do not fit.
        """
        folder = Path(folder)
        if size is None:
            if stage not in STAGES:
                raise ValueError(f"there is no LlamaGen stage {stage!r}; known are {', '.join(STAGES)}")
            size = STAGES[stage]
        if captions is None:
            if not (folder / TEXT_ENCODER).is_dir():
                raise ValueError(
                    f"there is no folder {folder / TEXT_ENCODER}; LlamaGen reads captions with the T5 in it"
                )
            captions = T5Captions.from_pretrained(folder / TEXT_ENCODER, dtype=dtype)
        with torch.device("meta"):
            model = LlamaGen(size)
        path = folder / f"{stage}.pt"
        load_strictly(model, gpt_tensors(tensors_in(path), size.heads), path)
        vq = official_vq(folder, size)
        parts: tuple[nn.Module, ...] = (model.llama, model.caption)
        for part in parts:
            nn.Module.to(part, dtype)
        return cls(model, vq, captions, compile=compile).to(device)

    def check(self, prompts: Sequence[str]) -> None:
        """Refuse what is no caption; every caption takes the same number of positions."""
        self.captions.check(prompts)

    def branches(self, guidance: float) -> int:
        """The official loop guides above 1 only; at 1 and below it draws from the conditional logits as they are."""
        return 2 if guidance > 1 else 1

    def columns(self, prompt: str) -> int:
        """The same for all: captions come padded."""
        return 0

    @torch.no_grad()
    def prefix(self, prompts: Sequence[str], branches: int) -> Prefix:
        """Project captions: b rows, then with two branches the learnt prefix, under the caption's own mask."""
        project = self.model.caption
        features, visible = self.captions(prompts)
        features, visible = features.to(project.fc1.weight), visible.to(self.device)
        if branches == 2:
            features = torch.cat([features, project.uncond.expand_as(features)])
            visible = visible.repeat(2, 1)
        return Prefix(project(features), visible)
