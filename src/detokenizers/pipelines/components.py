"""The house's models as components of a diffusers pipeline: what it saves, loads, moves, casts and offloads.

A component holds the very object that `dt.load` or `dt.load_vlm` returns, as `component.model`. All computing passes
through its `forward`, because the hooks that offload models are there.

folder -Component.from_pretrained-> Component(model) -forward(method, ...)-> what the model's method returns
"""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from diffusers import ModelMixin  # diffusers looks it up in this module to see how a component is loaded
from torch import nn

from .. import papers
from ..checkpoint import write_text
from ..hub.on_hub import keep_records
from ..nn.precision import cast
from ..texts import json_of, text_in
from ..training.state import BEFORE, STATE

HALF = (torch.bfloat16, torch.float16)


class Component(ModelMixin):
    """A model of the house, `component.model`."""

    mixes: ClassVar[bool] = True
    """Whether it needs autocast to compute with weights of half precision."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.asked: torch.dtype | None = None

    @classmethod
    def of(cls, model: Any) -> Self:
        """A model as a component; one that is a component already stays it."""
        return model if isinstance(model, cls) else cls(model)

    def forward(self, method: str, *arguments: Any, **more: Any) -> Any:
        """Call a method of the model."""
        half = self.mixes and self.asked in HALF
        with torch.autocast(self.device.type, self.asked) if half else nullcontext():
            return getattr(self.model, method)(*arguments, **more)

    @property
    def dtype(self) -> torch.dtype:
        """Of most weights; the parts that a model keeps in fp32 do not count."""
        return max(self.parameters(), key=torch.numel).dtype

    def to(self, *arguments: Any, **more: Any) -> Self:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Move it, and cast what may be cast."""
        device, dtype, *_ = torch._C._nn._parse_to(*arguments, **more)  # pyright: ignore[reportAttributeAccessIssue]
        if device is not None:
            nn.Module.to(self, device)
        if dtype is not None:
            cast(self.model, dtype)
            self.asked = dtype
        return self

    def save_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, save_directory: str | Path, **unused: Any
    ) -> None:
        """Write the model as a run folder, with the records of its training."""
        model: Any = self.model
        model.save(save_directory)
        keep_records(getattr(model, "origin", None), Path(save_directory))

    @classmethod
    def from_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, folder: str | Path, *, torch_dtype: torch.dtype | None = None, **loading: Any
    ) -> Self:
        """Read it back.

        Args:
            torch_dtype: of the weights that may be cast; as they are stored unless given.
            loading: what diffusers passes to the loaders of its own models.

        Raises:
            ValueError: the folder holds no such model, or `loading` asks for what these models have not.
        """
        if loading.get("quantization_config") is not None:
            raise ValueError("the models of this package are not quantised; leave quantization_config out")
        device = loading.get("device_map")
        component = cls.loaded(Path(folder), device if isinstance(device, (str, torch.device)) else "cpu")
        return component if torch_dtype is None else component.to(dtype=torch_dtype)

    @classmethod
    def loaded(cls, folder: Path, device: str | torch.device = "cpu") -> Self:
        """The component of a folder that `save_pretrained` left."""
        return cls(papers.load(folder, device=device))  # pyright: ignore[reportArgumentType]


class Drawer(Component):
    """A decoder of tokens, or a model from prompts to images."""


REFERENCE = "vlm.json"
COPIED = frozenset({".json", ".yaml", ".safetensors", ".txt", ".jinja", ".model"})
"""Files of a VLM's folder that are copied: settings, words, weights."""


class FrozenVLM(Component):
    """A VLM that samples tokens. It is saved as its name; one from a folder of this machine is copied along.

    Args:
        model: what `load_vlm` returns.
        name: what it was loaded by; None for an object that somebody built.
    """

    mixes = False

    def __init__(self, model: nn.Module, name: str | None = None) -> None:
        super().__init__(model)
        self.name = name

    @classmethod
    def named(cls, name: str, device: str | torch.device = "cpu") -> Self:
        """The VLM that `dt.load_vlm` finds under a name."""
        model: Any = papers.load_vlm(name, device=device)
        return cls(model, name)

    def save_pretrained(self, save_directory: str | Path, **unused: Any) -> None:
        """Write the name of the VLM; and its files, if the name is a folder's.

        Raises:
            ValueError: it has no name, or its folder holds more than safetensors.
        """
        if self.name is None:
            raise ValueError(
                f"this {type(self.model).__name__} was handed over as an object, so nobody knows where to load it "
                "from; give the pipeline its name instead: dt.pipeline(NAME, decoder=...)"
            )
        folder, name = Path(save_directory), self.name
        if Path(name).is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(Path(name).rglob("*")):
                within = path.relative_to(name)
                copy, of_training = folder / within, not {STATE, BEFORE}.isdisjoint(within.parts)
                if path.suffix in COPIED and not of_training and path.resolve() != copy.resolve():
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, copy)
            name = "."
        elif "@" in name:
            raise ValueError(f"{name} is loaded from files of another format, which are not copied; load it by hand")
        write_text(folder / REFERENCE, json.dumps({"vlm": name}) + "\n")

    @classmethod
    def loaded(cls, folder: Path, device: str | torch.device = "cpu") -> Self:
        """The VLM whose name is in a folder, or whose files are."""
        path = folder / REFERENCE
        known = json_of(text_in(path, "name of a VLM"), str(path))
        if not isinstance(known, dict) or not isinstance(known.get("vlm"), str):
            raise ValueError(f'{path} should read like {{"vlm": "mini"}}')
        return cls.named(str(folder) if known["vlm"] == "." else known["vlm"], device)
