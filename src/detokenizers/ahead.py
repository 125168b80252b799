"""Things made ahead of time by other processes, so that an accelerator does not wait while pictures are read or scenes
are rendered.

`make(part)` is a pure function, so no bit depends on who calls it and when. With no workers it is called when its
result is needed, in this process.

make, parts -workers, a few parts each ahead-> results in the order of the parts
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
from torch.utils.data import DataLoader, Dataset

P = TypeVar("P")
R = TypeVar("R")


@contextmanager
def ahead(make: Callable[[P], R], parts: Sequence[P], workers: int) -> Iterator[Iterator[R]]:
    """What `make` gives for each part, one after the other; the workers are gone when the block ends, however it ends.

    Workers are forked, since what `make` closes over cannot be pickled; they must leave accelerators alone.
    """

    def attempt(part: Any) -> R | Exception:
        """An error is handed over as what it is, for the first process to raise."""
        try:
            return make(part)
        except Exception as error:
            return error

    loader = DataLoader(
        cast("Dataset[P]", parts),
        batch_size=None,
        collate_fn=cast(Any, attempt),
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,
        generator=torch.Generator(),  # the loader's own draw; the default generator belongs to the training
    )
    found = iter(loader)

    def made() -> Iterator[R]:
        for result in found:
            if isinstance(result, Exception):
                raise result
            yield result

    try:
        yield made()
    finally:
        if workers:
            found._shutdown_workers()  # pyright: ignore[reportAttributeAccessIssue]
