"""`detok recipes`: every row of every paper's tables, by name.

RECIPES of the embedded stack and of the papers -> a list on stdout, or one recipe's docstring and YAML.
"""

from __future__ import annotations

import inspect

from ..papers import RECIPES, find
from .verbs import Recipes


def run(request: Recipes) -> None:
    """List all recipes, or show one."""
    if request.name:
        recipe = find(request.name)
        print(f"{inspect.getdoc(recipe)}\n\n{recipe().to_yaml()}", end="")
        return
    width = max(map(len, RECIPES))
    for name, recipe in RECIPES.items():
        print(f"{name:{width}}  {(inspect.getdoc(recipe) or '').splitlines()[0]}")
