"""`detok recipes`: every row of every paper's tables, by name.

RECIPES of the embedded stack and of the papers -> a list on stdout, or one recipe's docstring and YAML.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Protocol, Self

from ..dcdd.recipes import RECIPES as DCDD
from ..mini.recipes import RECIPES as MINI
from ..training import Job, TrainConfig
from .verbs import Recipes


class Run(Protocol):
    """What a recipe returns: a `Config` that knows its recipe, how to train, and what."""

    @property
    def recipe(self) -> str: ...
    @property
    def train(self) -> TrainConfig: ...
    def job(self) -> Job: ...
    def to_yaml(self) -> str: ...
    @classmethod
    def from_yaml(cls, path: str | Path) -> Self: ...


RECIPES: Mapping[str, Callable[[], Run]] = {**MINI, **DCDD}


def run(request: Recipes) -> None:
    """List all recipes, or show one."""
    if request.name:
        recipe = find(request.name)
        print(f"{inspect.getdoc(recipe)}\n\n{recipe().to_yaml()}", end="")
        return
    width = max(map(len, RECIPES))
    for name, recipe in RECIPES.items():
        print(f"{name:{width}}  {(inspect.getdoc(recipe) or '').splitlines()[0]}")


def find(name: str) -> Callable[[], Run]:
    """The recipe of that name, or a ValueError that names the nearest ones."""
    if name not in RECIPES:
        near = get_close_matches(name, RECIPES, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(RECIPES)}"
        raise ValueError(f"there is no recipe {name!r}; {hint} (`detok recipes` lists them)")
    return RECIPES[name]
