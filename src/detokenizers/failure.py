"""Which failures are the user's to put right, and how each reads in one line. Everything else keeps its traceback.

exception -one_line-> "what, what was expected, the way out", or None for a bug of ours.
"""

from __future__ import annotations

import sys

from pydantic import ValidationError

LONGEST = 400


def one_line(error: Exception) -> str | None:
    """An error as one line; None if it is not one a user can do anything about."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or error.title
        return _squeeze(f"{where}: {first['msg']}, got {first['input']!r}")
    if _out_of_memory(error):
        return "this does not fit in memory; use a smaller --batch, or another --device"
    if isinstance(error, OSError) and error.strerror:
        return _squeeze(f"{error.strerror}: {error.filename}" if error.filename else error.strerror)
    if isinstance(error, (ValueError, OSError)) and not isinstance(error, UnicodeError):
        return _squeeze(str(error)) or type(error).__name__
    return None


def _squeeze(text: str) -> str:
    # Escaped: control characters, and what stands for a byte that is no character and could not be printed.
    line = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in " ".join(text.split()))
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def _out_of_memory(error: Exception) -> bool:
    torch = sys.modules.get("torch")
    return isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError))
