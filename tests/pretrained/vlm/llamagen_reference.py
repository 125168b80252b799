"""LlamaGen written from its description, under its official parameter names: what the port is compared with.

The GPT runs without a cache over the whole sequence, with interleaved rotary pairs; the VQ with plain layers.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detokenizers.pretrained.vlm.llamagen import LlamaGenSize


def linear(inside: int, outside: int) -> nn.Linear:
    return nn.Linear(inside, outside, bias=False)


class Norm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(width) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * self.weight


class Attention(nn.Module):
    def __init__(self, size: LlamaGenSize) -> None:
        super().__init__()
        self.heads = size.heads
        self.wqkv = linear(size.hidden, 3 * size.hidden)
        self.wo = linear(size.hidden, size.hidden)

    def forward(self, x: Tensor, turns: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.wqkv(x).chunk(3, -1))
        q, k = (
            torch.view_as_real(torch.view_as_complex(part.unflatten(-1, (-1, 2)).contiguous()) * turns).flatten(-2)
            for part in (q, k)
        )
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        return self.wo((scores.masked_fill(~mask, -torch.inf).softmax(-1) @ v).transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    def __init__(self, size: LlamaGenSize) -> None:
        super().__init__()
        self.w1 = linear(size.hidden, size.intermediate)
        self.w3 = linear(size.hidden, size.intermediate)
        self.w2 = linear(size.intermediate, size.hidden)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class GPTBlock(nn.Module):
    def __init__(self, size: LlamaGenSize) -> None:
        super().__init__()
        self.attention = Attention(size)
        self.feed_forward = FeedForward(size)
        self.attention_norm = Norm(size.hidden)
        self.ffn_norm = Norm(size.hidden)

    def forward(self, x: Tensor, turns: Tensor, mask: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x), turns, mask)
        return x + self.feed_forward(self.ffn_norm(x))


class ReferenceGPT(nn.Module):
    """`forward(features [b l c], visible [b l], ids [b m]) -> logits [b 1+m v]` of the next image tokens."""

    def __init__(self, size: LlamaGenSize) -> None:
        super().__init__()
        self.size = size
        self.cls_embedding = nn.Module()
        self.cls_embedding.cap_proj = nn.Module()
        self.cls_embedding.cap_proj.fc1 = linear(size.caption_dim, size.hidden)
        self.cls_embedding.cap_proj.fc2 = linear(size.hidden, size.hidden)
        self.cls_embedding.register_buffer("uncond_embedding", torch.randn(size.caption_length, size.caption_dim))
        self.tok_embeddings = nn.Embedding(size.codebook, size.hidden)
        self.layers = nn.ModuleList(GPTBlock(size) for _ in range(size.layers))
        self.norm = Norm(size.hidden)
        self.output = linear(size.hidden, size.codebook)

    def turns(self) -> Tensor:
        """Unit complex numbers per position and pair; zero (not one) over the prefix."""
        size = self.size
        pairs = size.hidden // size.heads // 2
        table = torch.zeros(size.caption_length + size.grid**2, pairs, dtype=torch.complex64)
        for place in range(size.grid**2):
            for pair in range(pairs):
                axis, number = divmod(pair, pairs // 2)
                angle = divmod(place, size.grid)[axis] * 10000 ** (-2 * number / pairs)
                table[size.caption_length + place, pair] = torch.polar(torch.tensor(1.0), torch.tensor(float(angle)))
        return table

    def forward(self, features: Tensor, visible: Tensor, ids: Tensor) -> Tensor:
        project = self.cls_embedding.cap_proj
        prefix = project.fc2(F.gelu(project.fc1(features), approximate="tanh"))  # pyright: ignore
        x = torch.cat([prefix, self.tok_embeddings(ids)], 1)
        length = x.shape[1]
        mask = torch.ones(length, length).tril().bool()[None].repeat(len(x), 1, 1)
        mask[:, :, : visible.shape[1]] &= visible[:, None]
        mask |= torch.eye(length).bool()
        for layer in self.layers:
            x = layer(x, self.turns()[:length], mask[:, None])
        return self.output(self.norm(x))[:, visible.shape[1] - 1 :]


def swish(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


def group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps=1e-6)


class Res(nn.Module):
    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = group_norm(inside), nn.Conv2d(inside, outside, 3, padding=1)
        self.norm2, self.conv2 = group_norm(outside), nn.Conv2d(outside, outside, 3, padding=1)
        if inside != outside:
            self.nin_shortcut = nn.Conv2d(inside, outside, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(swish(self.norm2(self.conv1(swish(self.norm1(x))))))
        return (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x) + y


class Attn(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        q, k, v = (layer(y).flatten(2) for layer in (self.q, self.k, self.v))
        look = torch.bmm(q.permute(0, 2, 1), k) * x.shape[1] ** -0.5
        return x + self.proj_out(torch.bmm(v, look.softmax(2).permute(0, 2, 1)).view_as(x))


class Stage(nn.Module):
    """Residual blocks, attention at the smallest resolution, then perhaps a change of resolution."""

    def __init__(self, inside: int, outside: int, blocks: int, smallest: bool, move: str | None) -> None:
        super().__init__()
        self.res = nn.ModuleList(Res(inside if index == 0 else outside, outside) for index in range(blocks))
        self.attn = nn.ModuleList(Attn(outside) for _ in range(blocks if smallest else 0))
        self.move = move
        if move:
            stride, padding = (2, 0) if move == "downsample" else (1, 1)
            setattr(self, move, nn.Module())
            getattr(self, move).conv = nn.Conv2d(outside, outside, 3, stride=stride, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        for index, res in enumerate(self.res):
            x = res(x)
            x = self.attn[index](x) if len(self.attn) else x
        if self.move == "downsample":
            x = getattr(self, self.move).conv(F.pad(x, (0, 1, 0, 1)))
        elif self.move == "upsample":
            x = getattr(self, self.move).conv(F.interpolate(x, scale_factor=2.0))
        return x


class Trunk(nn.Module):
    """Encoder (`down`) or decoder: the same parts, in opposite order."""

    def __init__(self, size: LlamaGenSize, down: bool) -> None:
        super().__init__()
        widths = [size.vq_channels * factor for factor in size.vq_multipliers]
        order = range(len(widths)) if down else range(len(widths) - 1, -1, -1)
        inside = size.vq_channels if down else widths[-1]
        self.down = down
        self.conv_in = nn.Conv2d(3 if down else size.vq_latent, inside, 3, padding=1)
        self.conv_blocks = nn.ModuleList()
        for place, level in enumerate(order):
            move = ("downsample" if down else "upsample") if place < len(widths) - 1 else None
            blocks = size.vq_blocks + (0 if down else 1)
            self.conv_blocks.append(Stage(inside, widths[level], blocks, level == len(widths) - 1, move))
            inside = widths[level]
        self.mid = nn.ModuleList([Res(widths[-1], widths[-1]), Attn(widths[-1]), Res(widths[-1], widths[-1])])
        self.norm_out = group_norm(inside)
        self.conv_out = nn.Conv2d(inside, size.vq_latent if down else 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for layer in [*self.conv_blocks, *self.mid] if self.down else [*self.mid, *self.conv_blocks]:
            x = layer(x)
        return self.conv_out(swish(self.norm_out(x)))


class ReferenceVQ(nn.Module):
    def __init__(self, size: LlamaGenSize) -> None:
        super().__init__()
        self.size = size
        self.encoder, self.decoder = Trunk(size, down=True), Trunk(size, down=False)
        self.quantize = nn.Module()
        self.quantize.embedding = nn.Embedding(size.codebook, size.code_dim)
        self.quantize.register_buffer("codebook_used", torch.zeros(65536))
        self.quant_conv = nn.Conv2d(size.vq_latent, size.code_dim, 1)
        self.post_quant_conv = nn.Conv2d(size.code_dim, size.vq_latent, 1)

    def features(self, images: Tensor) -> Tensor:
        return self.quant_conv(self.encoder(images))

    def decode(self, ids: Tensor) -> Tensor:
        codes = F.normalize(self.quantize.embedding(ids), dim=-1)  # pyright: ignore
        plane = codes.transpose(1, 2).unflatten(2, (self.size.grid, self.size.grid)).contiguous()
        return self.decoder(self.post_quant_conv(plane))
