"""Other people's torch files: read without executing anything in them, loaded only where every name fits.

FILE.pth -read_state-> names and tensors -load_state-> a network with nothing missing and nothing left over
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a torch file, read without executing anything in it."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there are no weights at {path}")
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path} is not a readable weight file ({first}); was its download cut off?") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} does not hold a state dict of tensors")
    return state


def load_state(net: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Load a published state dict; only batch norm's step counters may be absent."""
    try:
        missing, unexpected = net.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit this network: {str(error).splitlines()[-1].strip()}") from None
    odd = [*(f"missing {name}" for name in missing if not name.endswith("num_batches_tracked")),
           *(f"unknown {name}" for name in unexpected)]  # fmt: skip
    if odd:
        raise ValueError(f"{path} does not fit this network: {', '.join(odd[:3])} ({len(odd)} in all)")
