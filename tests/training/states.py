"""States as they were written before each process wrote its part: one file."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from detokenizers.checkpoint import save_tensors
from detokenizers.training.state import BEFORE, STATE, whole_state


def as_before(folder: Path, state: Mapping[str, Tensor] | None = None) -> None:
    """Replace the state in a folder by such a file, of these tensors if they are given."""
    state = state or whole_state(folder)
    numbers = {name: tensor[0] for name, tensor in state.items() if name.rpartition("/")[2] in NUMBERS}
    shutil.rmtree(folder / STATE)
    save_tensors(folder / BEFORE, {**state, **numbers})


NUMBERS = ("step", "ema_updates", "calls")
"""What had no dimension."""
