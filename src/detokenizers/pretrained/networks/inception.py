"""The Inception of FID: Google's TensorFlow graph of 2015-12-05, whose 2048 pooled features define FID, rFID and KID.

It is not torchvision's Inception-v3: averages at borders leave the padding out, the last block takes a maximum where
the paper takes an average, there are 1008 classes, and the graph itself resizes pictures by TensorFlow 1's bilinear.
Parameters carry torch-fidelity's names, so its weight file loads as it is.

images [b 3 h w] in [-1, 1] -uint8, tf1_bilinear-> 299 px in [-1, 1) -stem, eleven blocks, mean-> features [b 2048]
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...checkpoint import load_strictly
from ...digests import sha256_of
from ...pixels import quantised
from ..weights.formats import tensors_in
from ..weights.published import INCEPTION, PUBLISHED, locate
from .inception_blocks import ConvNormReLU, average, block_a, block_b, block_c, block_d, block_e, halve, maximum
from .views import tf1_bilinear

SIZE = 299
TENSORFLOW = {"weight": "conv.weight", "beta": "bn.bias", "mean": "bn.running_mean", "var": "bn.running_var"}
"""The parts of a convolution in exports of the graph that keep TensorFlow's names."""


class Inception(nn.Module):
    """The frozen network; `features` are the 2048 numbers of FID and KID."""

    name = "inception-2015-12-05"
    view = f"uint8, TensorFlow 1 bilinear {SIZE}"

    def __init__(self) -> None:
        super().__init__()
        self.identity: str | None = None
        self.Conv2d_1a_3x3 = ConvNormReLU(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = ConvNormReLU(32, 32, 3)
        self.Conv2d_2b_3x3 = ConvNormReLU(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = ConvNormReLU(64, 80, 1)
        self.Conv2d_4a_3x3 = ConvNormReLU(80, 192, 3)
        self.Mixed_5b = block_a(192, pooled=32)
        self.Mixed_5c = block_a(256, pooled=64)
        self.Mixed_5d = block_a(288, pooled=64)
        self.Mixed_6a = block_b(288)
        self.Mixed_6b = block_c(768, inner=128)
        self.Mixed_6c = block_c(768, inner=160)
        self.Mixed_6d = block_c(768, inner=160)
        self.Mixed_6e = block_c(768, inner=192)
        self.Mixed_7a = block_d(768)
        self.Mixed_7b = block_e(1280, average)
        self.Mixed_7c = block_e(2048, maximum)
        self.fc = nn.Linear(2048, 1008)
        self.eval().requires_grad_(False)

    @classmethod
    def load(cls, name: str | Path = INCEPTION) -> Self:
        """The weights of a published name or a file; their sha256 becomes part of `identity`.

        Raises:
            ValueError: there is no such file, it is not the published one, or its tensors do not fit.
        """
        path = locate(str(name)) if str(name) in PUBLISHED else Path(name)
        net, tensors, optional = cls(), tensors_in(path), {"num_batches_tracked"}
        if any(name.endswith(".beta") for name in tensors):
            tensors = net.in_order(tensors)
            optional |= {"bn.weight"}
            del net.fc  # such exports stop at the pooled features
        load_strictly(net, tensors, path, optional=optional)
        net.identity = f"{cls.name}@sha256:{sha256_of(path)}"
        return net

    def in_order(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors under TensorFlow's leaf names, one group a convolution in the order of the graph, under ours.

        TensorFlow's batch norms have no gain, so ours stay at one.
        """
        theirs = dict.fromkeys(name.rpartition(".")[0] for name in tensors)
        ours = [name for name, part in self.named_modules() if isinstance(part, ConvNormReLU)]
        groups = dict(zip(theirs, ours))
        split = {name: name.rpartition(".") for name in tensors}
        return {
            f"{groups.get(group, group)}.{TENSORFLOW.get(leaf, leaf)}": tensors[name]
            for name, (group, _, leaf) in split.items()
        }

    def train(self, mode: bool = True) -> Self:
        """Frozen for good: batch norm never leaves its stored statistics."""
        return super().train(False)

    @torch.no_grad()
    def features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2048"]:
        """Pooled features (pool3) in fp32, of images of any size in [-1, 1], rounded to 8 bits first."""
        return self.pooled(tf1_bilinear(quantised(images).float(), SIZE))

    @torch.no_grad()
    def pooled(self, levels: Float[Tensor, "b 3 299 299"]) -> Float[Tensor, "b 2048"]:
        """Features of pictures resized by somebody else: levels 0..255, rounded or not (clean-fid's are not)."""
        if tuple(levels.shape[1:]) != (3, SIZE, SIZE):
            raise ValueError(f"Inception reads levels [b 3 {SIZE} {SIZE}], got {tuple(levels.shape)}")
        return self.blocks((levels - 128) / 128).mean((2, 3))

    @torch.no_grad()
    def logits(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1008"]:
        """Class logits without the bias, as the Inception score has always used them."""
        if not hasattr(self, "fc"):
            raise ValueError(f"{self.identity} has no class head; the Inception score needs {INCEPTION}")
        return self.features(images) @ self.fc.weight.T

    def blocks(self, x: Float[Tensor, "b 3 299 299"]) -> Float[Tensor, "b 2048 8 8"]:
        """From resized pixels in [-1, 1) to the last block's map."""
        x = halve(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))))
        x = halve(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))
        x = self.Mixed_6a(self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x))))
        x = self.Mixed_7a(self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(x)))))
        return self.Mixed_7c(self.Mixed_7b(x))
