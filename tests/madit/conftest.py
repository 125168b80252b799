"""The autoencoder that all tests of MaDiT share."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import tiny


@pytest.fixture(scope="session")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.vae_folder(tmp_path_factory.mktemp("vae"))
