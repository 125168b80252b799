"""Text that other people and programs wrote: UTF-8, lines, JSON and YAML, or one line that says which file is not.

Lines end at a line feed and nowhere else. `str.splitlines` also cuts at U+2028, U+0085, U+000B and five more, which are
ordinary characters of a prompt and of a JSON string.

path -text_in-> str -json_of | yaml_of-> values ; path -lines_in-> [(number, line)]
"""

from __future__ import annotations

import json
import re
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import yaml

from . import tars

HALF = re.compile("[\ud800-\udfff]")
"""Half a character: what an undecodable byte or a broken JSON escape leaves in a string. No file can hold it."""


def text_in(path: str | Path, what: str = "file") -> str:
    """The text of a UTF-8 file, without a byte order mark.

    Args:
        what: what is looked for there, for the message.
    """
    path = Path(path)
    try:
        with TextIOWrapper(tars.opened(path), encoding="utf-8-sig") as file:
            return file.read()
    except FileNotFoundError:
        raise ValueError(f"there is no {what} at {path}") from None
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = tars.opened(path).read()[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}:{line}: this is not UTF-8 text") from None


def lines_of(text: str) -> list[tuple[int, str]]:
    """The lines that are not blank, with their numbers from 1."""
    return [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def lines_in(path: str | Path) -> list[tuple[int, str]]:
    """The lines of a file that are not blank, with their numbers from 1."""
    return lines_of(text_in(path))


def json_of(text: str, where: str, **hooks: Any) -> Any:
    """What a JSON text says; `where` names it in errors, to which the line is added where there are several."""
    try:
        value = json.loads(text, **hooks)
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        line = f":{error.lineno}" if "\n" in text.strip() else ""
        raise ValueError(f"{where}{line}: this is not JSON ({error.msg} at column {error.colno})") from None
    except UnicodeEncodeError:
        raise ValueError(f"{where}: this holds half a character (a \\ud... escape without its other half)") from None
    except RecursionError:
        raise ValueError(f"{where}: this is nested too deeply") from None
    except ValueError as error:  # a number of thousands of digits
        raise ValueError(f"{where}: {error}") from None
    return value


def yaml_of(text: str, where: str) -> Any:
    """What a YAML text says."""
    try:
        return yaml.safe_load(text)
    # A tag on what it does not fit (`!!bool maybe`) leaves PyYAML as whatever its constructor met.
    except Exception as error:
        raise ValueError(f"{where} is not valid YAML: {' '.join(str(error).split()) or type(error).__name__}") from None


def require_whole(text: str, what: str) -> str:
    """The text itself, unless it holds half a character."""
    if HALF.search(text):
        raise ValueError(f"{what} {text!r} is not text in UTF-8; type or rename it in UTF-8")
    return text
