"""Where every random number comes from: an item's own seed, so that neither batch size nor order changes it.

(seed, id) -item_seed-> the seed of one picture ; (seed, position) -item_seeds-> seeds of training items
"""

from __future__ import annotations

import hashlib

import torch
from jaxtyping import Int
from torch import Tensor


def item_seed(seed: int, id: str) -> int:
    """The seed of one item: neither batch size nor order nor number of processes can change a picture."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{id}".encode()).digest()[:7])


def mixed(*parts: int | str) -> int:
    """Mix integers and words into one 32-bit seed (FNV-1a over their digits and letters), a thousand times a step."""
    value = 2166136261
    for byte in ",".join(map(str, parts)).encode():
        value = ((value ^ byte) * 16777619) & 0xFFFFFFFF
    return value


def item_seeds(seed: int, first: int, count: int) -> Int[Tensor, "b"]:
    """One seed for each of `count` items, the first being number `first` of the whole run."""
    return torch.tensor([mixed(seed, position) for position in range(first, first + count)])
