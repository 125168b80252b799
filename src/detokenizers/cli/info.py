"""`detok info`: what a run folder holds, without running anything."""

from __future__ import annotations

from tyro.conf import Positional

from ..config import Config


class Info(Config):
    """Print what a run folder holds: recipe, steps done, tensors, sizes, fingerprints."""

    run: Positional[str]
    """A run folder, or something embedded such as `mini/dcdd`."""


def run(request: Info) -> None:
    """Print the facts; damaged weights are an error."""
    from ..training.run_folder import contents

    facts = contents(request.run)
    width = max(map(len, facts))
    for name, fact in facts.items():
        print(f"{name:{width}}  {fact}")
