"""`detok train`: a recipe, or the run.yaml of a run, into a run folder. The work is `training.run_folder.train_into`'s."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path

from tyro.conf import Positional

from ..config import Config
from .command_line import Overridden, first_word, parse, parse_overrides


class Train(Config):
    """Train a recipe, or a run.yaml that a run left behind; a run that was cut off goes on to the bit.

    Every setting of the recipe can be overridden: `detok train RECIPE --help` lists them, `detok recipes` the recipes.

    detok train mini.vlm --train.lr 1e-3 --out runs/vlm
    """

    recipe: Positional[str]
    """A recipe's name, or a run.yaml."""
    out: Path
    """The run folder: run.yaml, weights, state, log, loss curve and preview."""


def parsed(arguments: Sequence[str]) -> Overridden:
    """Read `RECIPE [--setting value ...] --out DIR`; every setting of the recipe is an option.

    Raises:
        ValueError: no such recipe or file, a misspelt setting, or a value that does not fit.
    """
    name = first_word(arguments, after=("--out",))
    if name is None:
        return parse(Train, arguments, prog="detok train")  # prints the help, or fails
    from ..papers import find, run_of

    default = run_of(name)
    rest = list(arguments)
    rest.remove(name)
    read = parse_overrides(default, rest, prog=f"detok train {name}", description=inspect.getdoc(find(default.recipe)))
    if read.run.recipe != default.recipe:
        raise ValueError(
            f"--recipe is {read.run.recipe!r} but this is {default.recipe!r}; name the recipe first instead"
        )
    return read


def run(request: Overridden) -> None:
    """Train, and print the last losses."""
    from ..device import is_first
    from ..training.run_folder import train_into

    losses = train_into(request.run, request.out)
    report = "".join(f", {name} {value:.4f}" for name, value in losses.items())
    if is_first():
        print(f"{request.out}: {request.run.recipe}, {request.run.train.steps} steps{report}")
