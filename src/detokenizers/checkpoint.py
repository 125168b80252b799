"""A run folder is `run.yaml` plus `*.safetensors`, written whole or not at all. All weights, whoever wrote them, pass
through the one strict loader here, and all names of folders through the one resolver.

tensors -save_tensors-> NAME.safetensors -load_tensors-> tensors -load_strictly-> module
name -resolve-> a folder: one that the package carries, one that is there, or a Hub repository
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, load_file, save_file
from torch import Tensor, nn

from . import tars
from .int8 import multiplied, rounded
from .texts import json_of, text_in, yaml_of

log = logging.getLogger(__name__)

LONGEST_STEM = 200


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Write to the yielded temporary path; it replaces `path` only when the block ends without an error."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A name may be as long as the file system allows; one that is written meanwhile must not be longer.
        stem = os.fsencode(path.name)[:LONGEST_STEM].decode(errors="ignore")
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{stem}.", suffix=path.suffix)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror or error}") from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError | SafetensorError):
            raise ValueError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from None
        raise


def write_text(path: str | Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def save_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], *, dtype: torch.dtype | None = None, notes: str | None = None
) -> None:
    """Save tensors as safetensors, atomically; floating tensors are stored as `dtype` when one is given. With int8 a matrix
    or kernel keeps a scale for each of its rows beside it (half the bytes of fp16), and vectors are stored as fp16."""

    def stored(tensor: Tensor) -> Tensor:
        tensor = tensor.detach().cpu()
        return (tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor).contiguous().clone()

    if dtype == torch.int8:
        tensors, dtype = rounded(tensors), torch.float16
    with atomic(path) as temporary:
        # One entry: safetensors writes several in an order of chance, and equal files should be equal to the byte.
        metadata = {"notes": notes} if notes else {"format": "pt"}
        save_file({name: stored(tensor) for name, tensor in tensors.items()}, temporary, metadata=metadata)


def load_tensors(path: str | Path) -> dict[str, Tensor]:
    """Load safetensors; a missing, truncated or NaN-bearing file is one clear error."""
    path = Path(path)
    if not tars.exists(path):
        raise ValueError(f"there are no weights at {path}")
    try:
        tensors = load(tars.opened(path).read()) if tars.inside(path) else load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path} is not a readable safetensors file ({error}); was its download or copy cut off?"
        ) from None
    require_finite(tensors, path)
    return multiplied(tensors)


def notes_in(path: str | Path) -> dict[str, Any]:
    """The notes that `save_tensors` kept in a safetensors file; none where it kept none."""
    try:
        if tars.inside(Path(path)):
            with tars.opened(Path(path)) as file:
                metadata = json.loads(file.read(int.from_bytes(file.read(8), "little"))).get("__metadata__")
        else:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata()
        notes = json_of((metadata or {}).get("notes", "{}"), str(path))
    except (SafetensorError, OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not one of our files ({error}); delete it") from None
    if not isinstance(notes, dict):
        raise ValueError(f"{path} is not one of our files; delete it")
    return notes


def load_into(module: nn.Module, path: str | Path) -> None:
    """Load a safetensors file into a module, strictly."""
    load_strictly(module, load_tensors(path), path)


def load_strictly(
    module: nn.Module, tensors: Mapping[str, Tensor], source: str | Path, *, optional: Collection[str] = ()
) -> None:
    """Give a module its weights: all of them, no others, of its shapes, finite. A module on the meta device takes the
    tensors themselves, in its dtypes; any other one copies them.

    Args:
        source: where they are from, for the message.
        optional: names, or ends of names, that may be missing.

    Raises:
        ValueError: they do not fit, or are damaged; in one line.
    """
    own, ends = module.state_dict(), tuple(optional)
    require_fit(
        type(module).__name__,
        source,
        missing=[name for name in own if name not in tensors and not name.endswith(ends)],
        unknown=[name for name in tensors if name not in own],
        shapes=[(name, tensors[name].shape, own[name].shape) for name in own if name in tensors],
    )
    require_finite(tensors, source)
    on_meta = any(tensor.is_meta for tensor in own.values())
    if on_meta:
        tensors = {name: tensor.to(own[name].dtype) for name, tensor in tensors.items()}
    module.load_state_dict(tensors, strict=False, assign=on_meta)


def require_fit(
    kind: str,
    source: str | Path,
    *,
    missing: Iterable[str],
    unknown: Iterable[str] = (),
    shapes: Iterable[tuple[str, Sequence[int], Sequence[int]]] = (),
) -> None:
    """Refuse weights that lack a tensor, hold an unknown one, or one of another shape (found, expected)."""
    odd = [*(f"missing {name}" for name in missing), *(f"unknown {name}" for name in unknown)]
    odd += [f"{name} is {[*is_]}, not {[*should]}" for name, is_, should in shapes if tuple(is_) != tuple(should)]
    if odd:
        raise ValueError(f"{source} does not fit a {kind}: {', '.join(odd[:3])} ({len(odd)} in all)")


def require_finite(tensors: Mapping[str, Tensor], source: str | Path) -> None:
    """Refuse weights of which a number is NaN or infinite."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.numel():
            # The extremes are NaN if any number is, and finding them takes one pass and no memory.
            low, high = tensor.aminmax()
            if not (low.isfinite() & high.isfinite()):
                raise ValueError(f"{source}: tensor {name!r} holds NaN or infinity; these weights are damaged")


def fingerprint(tensors: Mapping[str, Tensor] | Tensor) -> str:
    """A sha256 over names, shapes and values (fp32 or int64): equal weights, equal fingerprint."""
    if isinstance(tensors, Tensor):
        tensors = {"": tensors}
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu()
        tensor = (tensor.float() if tensor.is_floating_point() else tensor.long()).contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.view(-1).numpy().data)
    return digest.hexdigest()


def weights_fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Twelve digits that change when any number in these weights does.

    Every tensor has a fingerprint, and the fingerprints have one: threads share the work, a few seconds for billions.
    """
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        prints = list(pool.map(lambda name: f"{name} {fingerprint(tensors[name])}", sorted(tensors)))
    return hashlib.sha256("\n".join(prints).encode()).hexdigest()[:12]


DECODER = "decoder.yaml"
"""The settings of a decoder, in the folder of its weights; their first key is `kind`."""
BEFORE = "dcdd.yaml"
"""Its name before there were other kinds than dcdd."""


def settings_in(folder: Path) -> Path:
    """The file of a decoder's settings, whether it is there or not."""
    return folder / (BEFORE if (folder / BEFORE).exists() and not (folder / DECODER).exists() else DECODER)


def kind_of(folder: Path) -> str:
    """What a folder's weights are: `kind` in its decoder.yaml, or `vae` for an AutoencoderKL.

    Raises:
        ValueError: they are nothing that draws.
    """
    if (path := settings_in(folder)).exists():
        settings = yaml_of(text_in(path, "decoder's settings"), str(path))
        kind = settings.get("kind", "dcdd" if path.name == BEFORE else None) if isinstance(settings, dict) else None
        if not isinstance(kind, str):
            raise ValueError(f"{path} names no kind; its first line should read like `kind: dcdd`")
        return kind
    if (path := folder / "config.json").exists():
        model = json_of(text_in(path, "model's config"), str(path))
        if isinstance(model, dict) and model.get("_class_name") == "AutoencoderKL":
            return "vae"
    if folder.is_file():
        raise ValueError(f"{folder} is a file; a decoder is named by its folder")
    raise ValueError(f"{folder} holds no decoder ({DECODER} is missing); the folder of a training has one at its end")


EMBEDDED = Path(__file__).parent / "embedded"


def resolve(name: str | Path, patterns: Sequence[str] = ()) -> Path:
    """The folder behind a name: `mini/PART`, which the package carries, a path, or a Hub repository.

    What is embedded comes first, so that no folder of the place a command happens to be run in takes its place; a
    folder that is called the same is `./mini/PART`.

    Args:
        patterns: the files that are needed of a Hub repository, `owner/name`; without any the Hub is never asked.

    Raises:
        ValueError: there is no such folder, and it cannot be had from the Hub; the message lists what is embedded.
    """
    if (folder := here(name)) is not None:
        return folder
    text = str(name)
    if not patterns or text.startswith(("mini/", ".", "/", "~")) or text.count("/") != 1:
        known = ", ".join(sorted(f"mini/{path.name}" for path in (EMBEDDED / "mini").glob("*/"))) or "nothing"
        remote = ", and a Hub id reads owner/name" if patterns else ""
        raise ValueError(f"there is no folder {text!r}, and it is not embedded either (embedded: {known}){remote}")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(text, allow_patterns=list(patterns)))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"there is no folder {text!r} here, and it cannot be had from the Hub: {reason(error)}"
        ) from None


def here(name: str | Path) -> Path | None:
    """The folder behind `mini/PART` or a path; None where there is none, as behind other names."""
    text = str(name)
    own = Path(name).expanduser() if text.startswith("~/") else Path(name)
    if text.startswith("mini/") and (EMBEDDED / name).exists():
        if own.exists():
            log.warning("%s is the embedded one; the folder here is ./%s", text, text)
        return EMBEDDED / name
    return own if own.exists() else None


def reason(error: Exception) -> str:
    """The first line of another library's error."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
