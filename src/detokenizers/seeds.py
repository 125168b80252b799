"""The seed of one item, whatever the batch, the order or the process it is drawn in."""

from __future__ import annotations

import hashlib


def item_seed(seed: int, id: str) -> int:
    """The seed of one item: neither batch size nor order nor number of processes can change a picture."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{id}".encode()).digest()[:7])
