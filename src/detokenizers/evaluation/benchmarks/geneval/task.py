"""One picture against one prompt, by GenEval's rules: all of `include`, none of `exclude`.

Colours and places are asked of the surest detections only, as many as are wanted. A clause that failed is no anchor for
a later one. Clauses are independent: the same detection may serve two.

Ask, objects by class, colour classifier -judge-> Verdict(correct, why not)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from .objects import Detection, Objects, relations
from .prompts import Ask, Wanted

Colours = Callable[[Sequence[Detection], str], Sequence[str]]
"""Found objects and their class name -> the colour of each, one of COLOURS."""


class Verdict(NamedTuple):
    correct: bool
    reasons: tuple[str, ...] = ()
    """Why it is wrong, clause by clause."""


def judge(ask: Ask, objects: Objects, colours: Colours) -> Verdict:
    """Judge a picture. `colours` is called only where a colour is asked for and enough objects were found."""
    reasons: list[str] = []
    groups: list[list[Detection] | None] = []
    for wanted in ask.include:
        found = objects.get(wanted.name, [])[: wanted.number]
        reason = _wrong(wanted, found, groups, colours)
        groups.append(None if reason else found)
        reasons += [reason] if reason else []
    for wanted in ask.exclude:
        if (number := len(objects.get(wanted.name, []))) >= wanted.number:
            reasons.append(f"expected {wanted.name} < {wanted.number}, found {number}")
    return Verdict(not reasons, tuple(reasons))


def _wrong(
    wanted: Wanted, found: list[Detection], groups: Sequence[list[Detection] | None], colours: Colours
) -> str | None:
    """What is wrong with one clause, if anything."""
    if len(found) < wanted.number:
        return f"expected {wanted.name} >= {wanted.number}, found {len(found)}"
    if wanted.colour:
        seen = list(colours(found, wanted.name))
        if seen.count(wanted.colour) < wanted.number:
            return f"expected {wanted.colour} {wanted.name} >= {wanted.number}, found {', '.join(seen)}"
    if wanted.relation:
        targets = groups[wanted.anchor]
        if targets is None:
            return f"no target for {wanted.name} to be {wanted.relation}"
        for one in found:
            for target in targets:
                if wanted.relation not in (sides := relations(one.box, target.box)):
                    where = " and ".join(sorted(sides)) or "on no clear side of"
                    return f"expected {wanted.name} {wanted.relation} its target, found {where} it"
    return None
