"""`detok recipes`: every row of every paper's tables, by name."""

from __future__ import annotations

import inspect

from tyro.conf import Positional

from ..config import Config


class Recipes(Config):
    """List the recipes, one per row of the papers' tables; or show one with all its settings."""

    name: Positional[str] = ""
    """Show this one."""


def run(request: Recipes) -> None:
    """List all recipes, or show one."""
    from ..papers import RECIPES, find

    if request.name:
        recipe = find(request.name)
        print(f"{inspect.getdoc(recipe)}\n\n{recipe().to_yaml()}", end="")
        return
    width = max(map(len, RECIPES))
    for name, recipe in RECIPES.items():
        print(f"{name:{width}}  {(inspect.getdoc(recipe) or '').splitlines()[0]}")
