"""How well a VLM understands images, measured on the embedded world, where the truth of every scene is known.

captions, truths -understanding-> share exactly right, overall and by kind of scene; recall of the truth's words
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..data.world.scenes import Truth, caption, parse
from .results import Metric, Result, mean_of
from .world_judge import share

RECALL = Metric("words recalled", "higher")
RESAMPLES = 1000


def understanding(captions: Sequence[str], truths: Sequence[Truth], seed: int = 0) -> dict[str, Result]:
    """Metrics of captions against what the scenes show.

    Args:
        captions: one per scene, as the VLM wrote it.
        truths: what each scene shows.
        seed: of the bootstrap interval.

    Returns:
        `exact`, one share for every kind of scene there is, and `recall`.
    """
    if len(captions) != len(truths) or not truths:
        raise ValueError(f"{len(captions)} captions for {len(truths)} scenes; give one per scene, and at least one")
    right = [same(said, truth) for said, truth in zip(captions, truths)]
    found = {"exact": share("captions exactly right", right)}
    for kind in sorted({truth.kind for truth in truths}):
        found[kind] = share(kind, [one for one, truth in zip(right, truths) if truth.kind == kind])
    recalled = torch.tensor([recall(said, caption(truth)) for said, truth in zip(captions, truths)])
    return {**found, "recall": mean_of(RECALL, recalled, RESAMPLES, seed)}


def same(said: str, truth: Truth) -> bool:
    """Whether a caption states the truth: objects with their colours, number, relation and background.

    The order of two objects matters only where a relation stands between them.
    """
    try:
        read = parse(said)
    except ValueError:
        return False
    return stated(read) == stated(parse(caption(truth)))


def stated(truth: Truth) -> tuple[object, ...]:
    """What a caption states, in an order that does not matter where the caption's does not."""
    things: list[tuple[str, str]] = [(thing.noun, thing.colour or "") for thing in truth.objects]
    return (tuple(things) if truth.relation else tuple(sorted(things)), truth.relation, truth.background)


def recall(said: str, truth: str) -> float:
    """Share of the truth's words that the caption has, each counted as often as it stands there."""
    rest, found = said.split(), 0
    for word in truth.split():
        if word in rest:
            rest.remove(word)
            found += 1
    return found / len(truth.split())
