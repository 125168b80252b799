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

from ..texts import require_whole

FRAME = re.compile(r"[╭╮╰╯│─┌┐└┘]+")
NOISE = re.compile(r"\[type=.*|\d+ validation errors? for \w+|For further information visit \S+")
SETTING = re.compile(r"\b([a-z_.]+)(\.\d+)?(?= Input should )")
"""How pydantic names what does not fit; people know it as an option."""
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
        request = tyro.cli(kind, prog=prog, description=description, args=list(arguments), config=config)
    for option in named_alone(arguments):
        path = option.removeprefix("--").replace("-", "_").split(".")
        if () in (value_at(request, path), value_at(getattr(request, "run", None), path)):
            raise CommandLineError(
                f"{option} is followed by no value; give it some, or leave it out (see {prog} --help)"
            )
    return request


def named_alone(arguments: Sequence[str]) -> list[str]:
    """Options with nothing behind them: switches, and lists that somebody left empty."""
    pairs = zip(arguments, [*arguments[1:], "--"])
    return [option for option, following in pairs if option.startswith("--") and following.startswith("--")]


def value_at(place: Any, path: Sequence[str]) -> Any:
    """A setting within settings; None where there is none."""
    for name in path:
        place = getattr(place, name, None)
    return place


def require_readable(arguments: Sequence[str]) -> None:
    """Refuse bytes that are no characters: no picture, manifest or report could hold them."""
    for argument in arguments:
        require_whole(argument, "the argument")


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
    said = [SETTING.sub(lambda one: f"--{one[1].replace('_', '-')}", clause) for clause in said]
    return "; ".join(sorted(said, key=lambda clause: not clause.startswith("Unrecognized")))
