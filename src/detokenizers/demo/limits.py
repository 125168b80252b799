"""What the page refuses, checked here and not in the browser, which a stranger need not use.

prompt, seed, steps, file -Limits-> the same, or ValueError ; exception -line_for_strangers-> what the page says
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any, NoReturn

from ..data.canonical import header
from ..failure import one_line
from .demo_settings import DemoConfig

log = logging.getLogger(__name__)
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")
"""Of uploads: the everyday ones, and none of Pillow's many others."""
LARGEST_SEED = 2**31 - 1


class Limits:
    """The limits of a page; every method refuses what is beyond.

    Raises:
        ValueError: in one line.
    """

    def __init__(self, config: DemoConfig) -> None:
        self.config = config

    def prompt(self, text: str | None) -> str:
        """A prompt without the spaces around it."""
        text = (text or "").strip()
        if not text:
            raise ValueError("there is no prompt; write what is to be drawn")
        if len(text) > self.config.longest_prompt:
            raise ValueError(
                f"the prompt has {len(text)} characters, more than the {self.config.longest_prompt} allowed"
            )
        return text

    def seed(self, number: float | None) -> int:
        """A seed."""
        return whole("the seed", number, LARGEST_SEED)

    def steps(self, number: float | None) -> int | None:
        """Sampling steps; None, each decoder's own, where it is 0."""
        return whole("the number of steps", number, self.config.most_steps) or None

    def picture(self, path: str | None) -> Path:
        """An upload, of which no pixel has been read yet."""
        if not path:
            raise ValueError("there is no picture; upload one")
        found, most = header(path), self.config.largest_picture
        if found.format not in FORMATS:
            raise ValueError(f"this is a {found.format} file; {', '.join(FORMATS)} are read")
        if found.width * found.height > most * 1_000_000:
            raise ValueError(f"the picture is {found.width}x{found.height} px, more than the {most} million allowed")
        return Path(path)


class BodyLimit:
    """An ASGI middleware: reading the body of a request fails where it goes beyond `most` bytes."""

    def __init__(self, app: Any, most: int, error: Callable[[], Exception]) -> None:
        self.app, self.most, self.error = app, most, error

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        read = 0

        async def counted() -> Any:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.most:
                raise self.error()
            return message

        await self.app(scope, counted if scope["type"] == "http" else receive, send)


def whole(what: str, number: float | None, most: int) -> int:
    """A whole number from 0 to `most`."""
    if number is None or not 0 <= number <= most or number != int(number):
        raise ValueError(f"{what} must be a whole number from 0 to {most}, and is {number}")
    return int(number)


def line_for_strangers(error: Exception, inputs: Sequence[object]) -> str:
    """A failure as one line of text on a page, without the folder of an uploaded file; a bug of ours is logged."""
    line = one_line(error)
    if line is None:
        log.error("a request failed", exc_info=error)
        line = "this failed; whoever runs this page finds the reason in its log"
    for one in inputs:
        if isinstance(one, str) and Path(one).is_absolute():
            line = line.replace(one, "the file")
    return escape(line, quote=False)


def no_address(host: str) -> NoReturn:
    """Refuse to read from an address: the page fetches nothing for anybody."""
    raise ValueError(f"{host} is not read; upload the file instead")
