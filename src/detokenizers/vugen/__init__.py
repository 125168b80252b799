"""VUGEN: Visual Understanding priors for GENeration (arXiv 2510.06529).

A VLM's vision tower keeps enough of an image to draw it again. So the VLM learns to sample in its own understanding
space: a reducer, learnt jointly with a pixel decoder, makes that space small; a generation tower, a copy of the frozen
language model that reads its keys and values, samples in it as a flow; the pixel decoder, distilled to one step, draws
without any VAE. Understanding stays bit-identical, because nothing of the VLM ever learns.

    P(image | prompt) = int P(image | latents) P(latents | prompt)    model.VUGEN.forward
    reduced = f(features), d = C / r              §3.1                reducers, autoencoder.Autoencoder.encode
    P(latents | prompt), mixture of transformers  §3.2                tower.Tower, pretrained.vlm.text_cache
    v = v_0 + s (v_c - v_0)                       §4.2                flow.guidance.guided
    P(image | latents): PDD and LDM               §3.3                decoders.PixelDecoder, decoders.LatentDecoder
    stage A, distillation, stage B                §3.3, §3.2          objectives, training.distillation, runs
    Decoupled, REPA                               §4.1                targets.Latents, runs.Repa
    Tables 1-2, Figs. 3, 6, 7, S3                                     recipes

Equations, tests and what the paper leaves open: docs/vugen.md.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def _model(folder: Path) -> Any:
    from .model import VUGEN

    return VUGEN.load(folder)


def _reconstruction(folder: Path) -> Any:
    from .reconstruction import Reconstruction

    return Reconstruction.load(folder)


KINDS: dict[str, Callable[[Path], Any]] = {"vugen": _model, "vugen_autoencoder": _reconstruction}
"""What `dt.load` makes of a folder of each kind: a text-to-image model, a decoder of tokens."""
