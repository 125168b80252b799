"""One base for every setting in the house: frozen, strict, and the same in Python, YAML and the shell.

recipe function -> Config object -> run.yaml in the run folder -> the same Config object again.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from .texts import text_in, yaml_of


class Config(BaseModel):
    """A frozen bag of settings. Unknown keys are errors; field docstrings are the `--help` text."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def vary(self, changes: dict[str, Any] | None = None, **more: Any) -> Self:
        """Return a copy with some settings changed, validated. Dotted keys reach into nested configs.

        >>> run.vary({"train.lr": 1e-4}, seed=1)

        Raises:
            ValueError: there is no such setting, or the value does not fit it.
        """
        data = self.model_dump()
        for key, value in {**(changes or {}), **more}.items():
            *path, leaf = key.split(".")
            place = data
            for name in path:
                place = _within(place, name, f"{type(self).__name__} has no setting {key!r}")
            _within(place, leaf, f"{type(self).__name__} has no setting {key!r}")
            place[leaf] = value.model_dump() if isinstance(value, BaseModel) else value
        return self.parse(data, source=type(self).__name__)

    def fingerprint(self) -> str:
        """A sha256 of all settings, to name what was computed with them."""
        return sha256(self.model_dump_json().encode()).hexdigest()

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

    @classmethod
    def from_yaml(cls, path: str | Path) -> Self:
        """Read a config back. Errors are one line that names the file, the key and what was expected."""
        data = yaml_of(text_in(path, "config file"), str(path))
        return cls.parse(data, source=str(path))

    @classmethod
    def parse(cls, data: Any, *, source: str = "these settings") -> Self:
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the top level"
            known = f"; {cls.__name__} has {', '.join(cls.model_fields)}" if first["type"] == "extra_forbidden" else ""
            raise ValueError(f"{source}: {where}: {first['msg']}{known}") from None


def _within(place: Any, name: str, problem: str) -> Any:
    if not isinstance(place, dict):
        raise ValueError(f"{problem}; nothing lies within {place!r}")
    if name not in place:
        raise ValueError(f"{problem}; it has {', '.join(place)}")
    return place[name]
