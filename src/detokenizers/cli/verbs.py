"""High-fidelity visual decoding for vision-language models: from tokens, distributions and features to pixels.

Try: detok generate "two red apples on a wooden table" --compare --out out/
"""

from __future__ import annotations

from ..config import Config
from .calibrate import Calibrate
from .demo import Demo
from .describe import Describe
from .distill import Distill
from .evaluate import Evaluate
from .generate import Generate
from .info import Info
from .recipes import Recipes
from .reconstruct import Reconstruct
from .train import Train

VERBS: dict[str, type[Config]] = {
    kind.__name__.lower(): kind
    for kind in (Generate, Reconstruct, Describe, Demo, Calibrate, Train, Distill, Recipes, Evaluate, Info)
}
SHARED = frozenset({"generate", "reconstruct", "train", "distill", "evaluate"})
"""Verbs whose work several processes share; that of the others is done by the first."""
