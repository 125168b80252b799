"""The tensors of a TorchScript archive, without TorchScript: `torch.jit.load` would compile the code that lies in it.

Such an archive is a zip with the storages as raw bytes, and a pickle of nested module objects whose attributes point to
them. Objects of the archive's own classes become plain holders of attributes, tensors are rebuilt here, and whatever
else the pickle asks for is refused.

FILE.pt -zip-> data.pkl -restricted unpickler-> nested attributes -names joined by dots-> {name: tensor}
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile, is_zipfile

import torch
from torch import Tensor

from ...checkpoint import reason

DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class Attributes:
    """What an object of the archive's own classes becomes."""


class ScriptUnpickler(pickle.Unpickler):
    """Knows tensors, lists and the archive's own classes, and nothing of Python."""

    def __init__(self, archive: ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{root}/data.pkl")))
        self.archive, self.root = archive, root

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "__torch__":
            return Attributes
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return rebuilt
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch.jit._pickle":  # lists of one type, and values with their type
            return lambda value, *_: value
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    def persistent_load(self, pid: Any) -> Tensor:
        _, dtype, key, *_ = pid
        data = bytearray(self.archive.read(f"{self.root}/data/{key}"))
        return torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)


def rebuilt(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    return storage.as_strided(size, stride, offset)


def is_scripted(path: Path) -> bool:
    """Whether a file is a TorchScript archive; the zips of `torch.save` hold no constants."""
    if not is_zipfile(path):
        return False
    with ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def scripted_tensors(path: Path) -> dict[str, Tensor]:
    """Parameters and buffers by the names they have in the module's state dict.

    Raises:
        ValueError: the archive is damaged, or its pickle asks for anything but tensors.
    """
    try:
        with ZipFile(path) as archive:
            (pickled,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
            module = ScriptUnpickler(archive, pickled.removesuffix("/data.pkl")).load()
            return dict(named(module))
    except Exception as error:  # a damaged pickle leaves the unpickler as whatever error its last step met
        raise ValueError(f"{path} is not a readable TorchScript archive: {reason(error)}") from None


def named(module: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors among an object's attributes, and those of the objects among them."""
    for name, value in vars(module).items():
        if isinstance(value, Tensor):
            yield prefix + name, value
        elif isinstance(value, Attributes):
            yield from named(value, f"{prefix}{name}.")
