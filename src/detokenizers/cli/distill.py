"""`detok distill`: the decoder of a finished run, in one step. The work is `training.distil_run`'s."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path

from tyro.conf import Positional

from ..config import Config
from . import train
from .command_line import Overridden, first_word, parse, parse_overrides


class Distill(Config):
    """Make a decoder that draws in one step of one that draws in many, whichever paper it is of.

    It learns from its own drawings, on the images and with the losses that it learnt with before. Every setting can be
    overridden: `detok distill RUN --help` lists them. A run that was cut off goes on to the bit.

    detok distill out/vugen/mini_autoencoder --out out/vugen/mini_distil
    """

    run: Positional[str]
    """The folder of the run that trained the decoder of many steps."""
    out: Path
    """The run folder of the one of one step."""


def parsed(arguments: Sequence[str]) -> Overridden:
    """Read `RUN [--setting value ...] --out DIR`.

    Raises:
        ValueError: RUN is no run or none that can be distilled, a misspelt setting, or a value that does not fit.
    """
    name = first_word(arguments, after=("--out",))
    if name is None:
        return parse(Distill, arguments, prog="detok distill")  # prints the help, or fails
    from ..papers import find, student_of

    default, rest = student_of(name), list(arguments)
    rest.remove(name)
    return parse_overrides(
        default, rest, prog=f"detok distill {name}", description=inspect.getdoc(find(default.recipe))
    )


run = train.run
