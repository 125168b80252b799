"""The published weight files that other people's numbers were measured with, found on this machine and checked.

A number is only comparable when the network behind it is bit for bit the published one, so a file is used only when its
sha256 is the published one, wherever it was found. These files are never part of this package; their licences differ.

name -locate-> $DETOK_WEIGHTS | ~/.cache/detokenizers/weights | torch hub's folder | download -sha256-> a path to trust
"""

from __future__ import annotations

import logging
import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import torch
from huggingface_hub import snapshot_download
from torch import Tensor

from ..checkpoint import atomic
from .digest import sha256_of

log = logging.getLogger(__name__)

TIMEOUT_S = 30
CHUNK = 2**20


@dataclass(frozen=True)
class PublishedFile:
    """One file with a fixed address; torch hub's naming puts the first eight digits of its sha256 in the name."""

    name: str
    url: str
    bytes: int
    sha256: str
    licence: str
    used_by: str


@dataclass(frozen=True)
class PublishedRepo:
    """A Hub repository at one commit; `sha256` is that of `weights`, None where no full hash could be confirmed."""

    name: str
    revision: str
    weights: str
    bytes: int
    sha256: str | None
    licence: str
    used_by: str

    @property
    def url(self) -> str:
        return f"https://huggingface.co/{self.name}/tree/{self.revision}"


INCEPTION = "weights-inception-2015-12-05-6726825d.pth"
ALEXNET = "alexnet-owt-7be5be79.pth"
VGG16 = "vgg16-397923af.pth"
DINOV2 = "facebook/dinov2-large"
CLIP_OPENAI = "openai/clip-vit-large-patch14"
CLIP_DATACOMP = "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K"

PUBLISHED: dict[str, PublishedFile | PublishedRepo] = {
    one.name: one
    for one in (
        PublishedFile(
            INCEPTION,
            f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{INCEPTION}",
            95_628_359,
            "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
            "Apache-2.0",
            "FID, rFID, KID",
        ),
        PublishedFile(
            ALEXNET,
            f"https://download.pytorch.org/models/{ALEXNET}",
            244_408_911,
            "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
            "BSD-3-Clause",
            "LPIPS-alex",
        ),
        PublishedFile(
            VGG16,
            f"https://download.pytorch.org/models/{VGG16}",
            553_433_881,
            "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
            "BSD-3-Clause",
            "LPIPS-vgg",
        ),
        PublishedRepo(
            DINOV2,
            "47b73eefe95e8d44ec3623f8890bd894b6ea2d6c",
            "model.safetensors",
            1_217_522_888,
            "399fba97a95f22c36834418bc69373364a99af3a1153da1c0fb31db567c92e23",
            "Apache-2.0",
            "FD-DINOv2",
        ),
        PublishedRepo(
            CLIP_OPENAI,
            "32bd64288804d66eefd0ccbe215aa642df71cc41",
            "model.safetensors",
            1_710_540_580,
            "a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb",
            "MIT",
            "CLIPScore-clip-vit-large-patch14",
        ),
        # At this commit the weights are known as pytorch_model.bin, read with weights_only; about this many bytes.
        PublishedRepo(
            CLIP_DATACOMP,
            "84c9828e63dc9a9351d1fe637c346d4c1c4db341",
            "pytorch_model.bin",
            1_710_000_000,
            None,
            "MIT",
            "CLIPScore-CLIP-ViT-L-14-DataComp.XL-s13B-b90K",
        ),
    )
}


def locate(name: str) -> Path:
    """The verified file, or the folder of the verified repository, of a published network.

    Looked for in `$DETOK_WEIGHTS`, in `~/.cache/detokenizers/weights` (or under `$XDG_CACHE_HOME`), and, for single
    files, where torch hub keeps them; else downloaded, unless `HF_HUB_OFFLINE` is set.

    Raises:
        ValueError: it is not here and cannot be had, or what is here is not the published file.
    """
    if name not in PUBLISHED:
        raise ValueError(f"there is no published network {name!r}; known are {', '.join(PUBLISHED)}")
    published = PUBLISHED[name]
    if isinstance(published, PublishedFile):
        path = _file(published)
        _require(path, published.sha256)
        return path
    folder = _repo(published)
    if published.sha256 is not None:
        _require(folder / published.weights, published.sha256)
    return folder


def places() -> list[Path]:
    """The folders that are searched, in this order; downloads of single files go to the first."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    chosen = os.environ.get("DETOK_WEIGHTS")
    return [*([Path(chosen).expanduser()] if chosen else []), cache / "detokenizers" / "weights"]


def offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def wanted(published: PublishedFile | PublishedRepo, reason: str) -> ValueError:
    """The one line that says what is missing and how to get it."""
    single = isinstance(published, PublishedFile)
    what = published.name if single else f"{published.name}/{published.weights}"
    how = f"put it into {places()[0]}" if single else f"put it and the *.json files into {places()[0] / published.name}"
    return ValueError(
        f"{published.used_by} needs {what} ({published.bytes / 1e6:.0f} MB) from {published.url}; "
        f"{how}, or name another folder in DETOK_WEIGHTS ({reason})"
    )


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


def _file(published: PublishedFile) -> Path:
    for folder in (*places(), Path(torch.hub.get_dir()) / "checkpoints"):
        if (path := folder / published.name).is_file():
            return path
    if offline():
        raise wanted(published, "it is not here and HF_HUB_OFFLINE forbids downloads")
    return _download(published, places()[0] / published.name)


def _repo(published: PublishedRepo) -> Path:
    for place in places():
        for folder in (place / published.name, place / published.name.split("/")[1]):
            if (folder / published.weights).is_file():
                return folder
    patterns = [published.weights, "*.json"]
    try:
        found = snapshot_download(
            published.name, revision=published.revision, allow_patterns=patterns, local_files_only=offline()
        )
    except (OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise wanted(published, f"the Hub says: {reason}") from None
    if not (Path(found) / published.weights).is_file():
        raise wanted(published, f"{found} does not hold it")
    return Path(found)


def _download(published: PublishedFile, path: Path) -> Path:
    log.warning("downloading %s (%.0f MB) from %s", published.name, published.bytes / 1e6, published.url)
    with atomic(path) as temporary:
        try:
            with urlopen(published.url, timeout=TIMEOUT_S) as response, temporary.open("wb") as file:
                while chunk := response.read(CHUNK):
                    file.write(chunk)
        except OSError as error:
            raise wanted(published, f"downloading it failed: {error}") from None
        _require(temporary, published.sha256)
    return path


def _require(path: Path, expected: str) -> None:
    found = sha256_of(path)
    if found != expected:
        raise ValueError(
            f"{path} is not the published file: its sha256 is {found[:16]}..., not {expected[:16]}...; remove it"
        )
