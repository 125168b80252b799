"""What many tests share: a tiny stack instead of the trained one, one thread a worker, the longest files first."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from detokenizers import checkpoint

LONGEST = ("test_vugen_scripts.py", "test_madit_scripts.py", "test_runs.py")
"""Files that one worker is busy with for minutes: begun last, they would leave the others idle."""

if "PYTEST_XDIST_WORKER" in os.environ:  # as many workers as cores: a thread each, also in the processes they start
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session")
def tiny_stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `mini/vlm`, `mini/vae`, `mini/world_net` and `mini/dcdd`, random and tiny."""
    from . import stack

    folder = tmp_path_factory.mktemp("embedded")
    stack.build(folder / "mini")
    return folder


@pytest.fixture
def embedded(tiny_stack: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny stack in the place of the embedded one."""
    monkeypatch.setattr(checkpoint, "EMBEDDED", tiny_stack)
    return tiny_stack
