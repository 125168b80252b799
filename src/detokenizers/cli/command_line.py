"""Arguments to typed requests with tyro, whose boxed complaints become the one line that `detok` promises.

arguments -tyro-> request ; a box of several lines on stderr -flatten-> CommandLineError.
"""

from __future__ import annotations

import dataclasses
import inspect
import io
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro

from ..config import Config
from ..texts import require_whole

FRAME = re.compile(r"[╭╮╰╯│─┌┐└┘]+")
RULE = re.compile(r"\s*-{9,}\s*")
"""What stands for a frame where stdout cannot write one: below the title, and between paragraphs."""
NOISE = re.compile(r"Error parsing [A-Z]\w*: |\d+ validation errors? for \w+ |For further information visit \S+")
VALUE = re.compile(r" \[type=\w+, input_value=(.+?), input_type=\w+\].*")
UNFIT = re.compile(r"no type matching (.+) could be instantiated from (.+)")
SETTING = re.compile(r"\b([a-z_.]+)(\.\d+)?(?= Input should )")
"""How pydantic names what does not fit; people know it as an option."""
DETAILS = ("For full helptext", "Argument helptext", "Got errors")
STYLE = re.compile(r"\x1b\[[0-9;]*m")
SOLID = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")
"""Scripts that put no spaces between words, as Unicode calls their letters."""


class CommandLineError(ValueError):
    """An option is unknown, missing or misspelt, or its value does not fit."""


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


class Overridden(NamedTuple):
    """Settings of a run with overrides applied, and where it goes."""

    run: Any
    out: Path


def parse_overrides(default: Any, arguments: Sequence[str], *, prog: str, description: str | None) -> Overridden:
    """Read `[--setting value ...] --out DIR`; every setting of `default` is an option."""
    fields: list[Any] = [
        ("run", Annotated[type(default), tyro.conf.arg(name="")], dataclasses.field(default=default)),
        ("out", Annotated[Path, tyro.conf.arg(help="The run folder.")], dataclasses.field(kw_only=True)),
    ]
    kind = dataclasses.make_dataclass("Overridden", fields, frozen=True)
    read = parse(kind, arguments, prog=prog, description=description)
    return Overridden(read.run, read.out)


def first_word(arguments: Sequence[str], after: Sequence[str]) -> str | None:
    """The first argument that is neither an option nor the value of one of these options."""
    pairs = zip(["", *arguments], arguments)
    return next((this for before, this in pairs if not this.startswith("-") and before not in after), None)


def named_alone(arguments: Sequence[str]) -> list[str]:
    """Options with nothing behind them: switches, and lists that somebody left empty."""
    pairs = zip(arguments, [*arguments[1:], "--"])
    return [option for option, following in pairs if option.startswith("--") and following.startswith("--")]


def value_at(settings: Any, path: Sequence[str]) -> Any:
    """A setting within settings; None where there is none."""
    for name in path:
        settings = getattr(settings, name, None)
    return settings


def require_readable(arguments: Sequence[str]) -> None:
    """Refuse bytes that are no characters, which no picture, manifest or report could hold, and arguments of nothing:
    an empty path would be this folder."""
    if "" in arguments:
        raise CommandLineError("an argument is empty; is a variable of the shell not set?")
    for argument in arguments:
        require_whole(argument, "the argument")


def greedy_options(request: Config, *options: str) -> str:
    """The values that options of several values got, for a message that misses something: it may be among them."""
    given = {option: getattr(request, option) for option in options}
    hints = [
        f"; --{option} takes every word that follows it, here {' '.join(map(repr, values))}: put the rest before it"
        for option, values in given.items()
        if values != type(request).model_fields[option].default
    ]
    return "".join(hints)


def require_quotes(texts: Sequence[str]) -> None:
    """Refuse words that were one prompt before the shell took it apart."""
    if len(texts) > 1 and all(len(text.split()) == 1 and not is_solid(text) for text in texts):
        raise ValueError(
            f"these are {len(texts)} prompts of one word each; for one picture put them in quotes, "
            f'detok generate "{" ".join(texts)}", and for {len(texts)} pictures in a file, one a line: --prompts FILE'
        )


def is_solid(text: str) -> bool:
    """Whether a text is in a script that puts no spaces between words."""
    return any(unicodedata.name(letter, "").startswith(SOLID) for letter in text)


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
    for number, line in enumerate(STYLE.sub("", box).splitlines()):
        words = FRAME.sub(" ", line).split()
        if line.startswith(("╭", "╰")):
            continue
        if RULE.fullmatch(line):
            clauses, words = ([[]], []) if number == 1 else ([*clauses, []], [])
        elif not words:
            clauses.append([])
        clauses[-1] += words
    texts = [" ".join(words).rstrip(".") for words in clauses]
    texts = [NOISE.sub("", text).strip() for text in texts if text and not text.startswith(DETAILS)]
    texts = [UNFIT.sub(r"expected \1, got \2", VALUE.sub(r", got \1", text)) for text in texts]
    texts = [SETTING.sub(lambda one: f"--{one[1].replace('_', '-')}", text) for text in texts]
    return "; ".join(sorted(texts, key=lambda text: not text.startswith("Unrecognized")))
