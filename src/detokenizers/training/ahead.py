"""Batches made ahead of time by other processes, so that an accelerator does not wait while scenes are rendered.

`batches(part, size)` is a pure function, so who calls it and when changes no bit. With no workers it is called when its
batch is asked for, in this process.

batches, parts -workers, a few parts each ahead-> batches in the order of the parts
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .job import Batches


class Parts(Dataset[Any]):
    """The batches of some parts by position; an error is handed over as what it is, for the first process to raise."""

    def __init__(self, batches: Batches, parts: Sequence[int], size: int) -> None:
        self.batches, self.parts, self.size = batches, parts, size

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, position: int) -> dict[str, Tensor] | Exception:
        try:
            return self.batches(self.parts[position], self.size)
        except Exception as error:
            return error


@contextmanager
def ahead(batches: Batches, parts: Sequence[int], size: int, workers: int) -> Iterator[Iterator[dict[str, Tensor]]]:
    """The batches of `parts`, one after the other; the workers are gone when the block ends, however it ends.

    Workers are forked, since what a job closes over cannot be pickled; they must leave accelerators alone, as
    `batches` does everywhere in this package.
    """
    loader = DataLoader(
        Parts(batches, parts, size),
        batch_size=None,
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,
        generator=torch.Generator(),  # the loader's own draw; the default generator belongs to the training
    )
    found = iter(loader)

    def made() -> Iterator[dict[str, Tensor]]:
        for batch in found:
            if isinstance(batch, Exception):
                raise batch
            yield batch

    try:
        yield made()
    finally:
        if workers:
            found._shutdown_workers()  # pyright: ignore[reportAttributeAccessIssue]
