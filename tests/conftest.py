"""What many tests share: a tiny embedded stack instead of the trained one."""

from __future__ import annotations

from pathlib import Path

import pytest

from detokenizers import checkpoint


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
