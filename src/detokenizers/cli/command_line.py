"""Arguments to typed requests with tyro, whose boxed complaints become the one line that `detok` promises.

arguments -tyro-> request ; a box of several lines on stderr -flatten-> CommandLineError.
"""

from __future__ import annotations

import inspect
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from typing import Any

import tyro

FRAME = re.compile(r"[╭╮╰╯│─┌┐└┘]+")
NOISE = re.compile(r"\[type=.*|\d+ validation errors? for \w+|For further information visit \S+")
DETAILS = ("For full helptext", "Argument helptext")
STYLE = re.compile(r"\x1b\[[0-9;]*m")


class CommandLineError(ValueError):
    """The command line does not say what it should."""


def parse(kind: type, arguments: Sequence[str], *, prog: str, description: str | None = None) -> Any:
    """Read arguments as a request of one type.

    Raises:
        CommandLineError: unknown, missing or misspelt options; the message fits one line.
        SystemExit: with code 0, after `--help`.
    """
    with one_line_complaints(prog):
        # Parts with variants keep the variant of the recipe: variants are recipes, flags are numbers.
        config = (tyro.conf.AvoidSubcommands,)
        return tyro.cli(kind, prog=prog, description=description, args=list(arguments), config=config)


def choose(kinds: Mapping[str, type], arguments: Sequence[str], *, prog: str, description: str) -> None:
    """Explain what the first word of a command line may be, or complain about the one that is there."""

    def summary(kind: type) -> Callable[[], None]:
        def command() -> None: ...

        command.__doc__ = (inspect.getdoc(kind) or "").split("\n")[0]
        return command

    commands = {name: summary(kind) for name, kind in kinds.items()}
    with one_line_complaints(prog):
        tyro.extras.subcommand_cli_from_dict(commands, prog=prog, description=description, args=list(arguments))


@contextmanager
def one_line_complaints(prog: str) -> Iterator[None]:
    """What tyro would print in a box becomes a CommandLineError."""
    box = io.StringIO()
    try:
        with redirect_stderr(box):
            yield
    except SystemExit as end:
        if not end.code:
            raise
        raise CommandLineError(f"{flatten(box.getvalue())} (see {prog} --help)") from None


def flatten(box: str) -> str:
    """The paragraphs of a tyro error box as clauses of one sentence; unknown options first, they explain the others.

    >>> flatten("╭─ Value error ─╮\\n│ no such  │\\n│ option. │\\n│ ─── │\\n│ For full helptext, run x │\\n╰──╯")
    'no such option'
    """
    clauses: list[list[str]] = [[]]
    for line in STYLE.sub("", box).splitlines():
        words = FRAME.sub(" ", line).split()
        if line.startswith(("╭", "╰")):
            continue
        if not words:
            clauses.append([])
        clauses[-1] += words
    said = [" ".join(words).rstrip(".") for words in clauses]
    said = [NOISE.sub("", clause).strip() for clause in said if clause and not clause.startswith(DETAILS)]
    return "; ".join(sorted(said, key=lambda clause: not clause.startswith("Unrecognized")))
