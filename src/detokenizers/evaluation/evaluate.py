"""One request to evaluate, worked out: who is measured against what, on which ids, by whom, under which rules.

Everything is made when it is first asked for, so a wrong name fails before the first picture is read.

Evaluate -> rows, reference, matched ids -> chosen metrics -> one pass (and one over the reference) -> Result
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..cli.verbs import Evaluate
from ..config import swallowed
from ..data.images import ImageFile, find
from ..data.prompts import read_prompts
from ..device import device_of
from ..mini.runs import load_world_net
from . import metrics
from . import rules as protocols
from .agreement import Agreement
from .distances import How
from .judging import asked_in, world_judge
from .networks import Networks
from .one_pass import TRUTH, Pass, Side
from .real import Real, real_pictures, real_statistics
from .report import report, require_no_copies
from .results import Result
from .same_tokens import same_tokens
from .shards import Evidence
from .sharing import Share, measure
from .sides import (
    Folder,
    Matched,
    Rows,
    SceneSide,
    drawn_reader,
    manifest_of,
    matched,
    prompts_of,
    reference_reader,
    rows_of,
    two_rows,
)
from .token_usage import codebook_scores

STATISTICS = (".safetensors", ".npz")


@dataclass
class Evaluation:
    """One request, worked out: who is measured against what, on which ids, by whom."""

    request: Evaluate
    protocol: protocols.Protocol = field(init=False)
    networks: Networks = field(init=False)
    share: Share = field(init=False)

    def __post_init__(self) -> None:
        asked = self.request
        self.protocol, self.share = protocols.protocol(asked.protocol), Share.parse(asked.shard)
        own = {"world": lambda: load_world_net(asked.net)}
        self.networks = Networks(device_of(asked.device), look=self.protocol.look, **own)

    @cached_property
    def size(self) -> int | None:
        """Side of the canonical picture; the embedded net's where the protocol leaves it to that."""
        if self.protocol.extractor == "world" and self.protocol.size is None:
            return self.networks["world"].config.resolution
        return self.protocol.size

    @cached_property
    def rows(self) -> Rows:
        """The pictures that are judged, by decoder."""
        if not self.request.drawn and not self.request.compare:
            raise ValueError(
                "name the folders of pictures to judge, or two of them with --compare A B"
                f"{swallowed(self.request, 'metrics', 'allow')}"
            )
        rows = rows_of(self.request.drawn)
        return two_rows(rows, self.request.compare) if self.request.compare else rows

    @cached_property
    def home(self) -> Path:
        """The first folder: its manifest says what was asked, and the report goes there unless --out is given."""
        return next(iter(self.request.drawn), None) or Path((self.request.compare or ("",))[0])

    @property
    def out(self) -> Path:
        return self.request.out or self.home

    @cached_property
    def reference(self) -> tuple[list[str], Side | None]:
        """Ids and pictures of the reference; neither when it is a file of statistics."""
        asked = self.request
        if bool(asked.reference) == bool(asked.world):
            raise ValueError(
                "name the real pictures with --reference, or ask for --world N scenes; exactly one of the two"
            )
        if asked.world:
            if self.size is None:
                raise ValueError(f"the protocol {self.protocol.name!r} has no size to draw scenes at; give --reference")
            scenes = SceneSide(asked.world, self.size, asked.split)
            return list(scenes.truths), scenes
        assert asked.reference is not None
        if asked.reference.suffix.lower() in STATISTICS:
            return [], None
        return self.folder(find(asked.reference), real=True)

    def folder(self, files: list[ImageFile], *, real: bool) -> tuple[list[str], Side]:
        reader = reference_reader if real else drawn_reader
        return [file.id for file in files], Folder(files, reader(files, self.protocol, self.size))

    @cached_property
    def matched(self) -> Matched:
        """The ids that are measured, their number being the protocol's."""
        expected = [row["id"] for row in manifest_of(self.home)]
        found = matched(self.rows, expected, self.reference[0], allow_missing="missing" in self.request.allow)
        self.protocol.require_n(len(found.ids), any_n=self.any_n)
        return found

    @property
    def any_n(self) -> bool:
        return "any-n" in self.request.allow

    @cached_property
    def sides(self) -> dict[str, Side]:
        """Decoder name -> pictures; the originals first where ids pair up."""
        if TRUTH in self.rows:
            raise ValueError(f"a folder of drawn pictures cannot be called {TRUTH!r} here; rename it")
        drawn = {name: self.folder(files, real=False)[1] for name, files in self.rows.items()}
        truth = self.reference[1]
        return {**({TRUTH: truth} if self.matched.paired and truth else {}), **drawn}

    @cached_property
    def chosen(self) -> metrics.Chosen:
        """The metrics asked for, or the protocol's."""
        paired = self.matched.paired
        names = self.request.metrics or (self.protocol.paired if paired else self.protocol.unpaired)
        judge = None if paired and not self.request.metrics else self.judge
        if judge is None and not self.request.metrics:
            names = tuple(name for name in names if name != metrics.AGREEMENT)
        found = metrics.chosen(names, extractor=self.protocol.extractor, judge=judge)
        for distance in found.distances:
            if isinstance(distance, metrics.Frechet):
                self.protocol.metric(distance.extractor, len(self.matched.ids), paired=paired, any_n=self.any_n)
        if pairs := [measure.name for measure in found.measures if measure.pairs and not paired]:
            raise ValueError(f"{pairs[0]} compares pairs, but no id of the pictures is one of the reference's")
        return found

    @cached_property
    def judge(self) -> Agreement | None:
        asked = asked_in(self.home)
        if asked is None:
            return None
        return Agreement(lambda: world_judge(self.request.net), asked, self.networks.extractor("world").identity)

    @cached_property
    def prompts(self) -> dict[str, str] | None:
        """What the pictures should show, if a metric wants to know."""
        wanting = next((measure.name for measure in self.chosen.measures if measure.prompts), None)
        if wanting is None:
            return None
        file = self.request.prompts
        found = {one.id: one.text for one in read_prompts(file)} if file else prompts_of(manifest_of(self.home))
        if lacking := [id for id in self.matched.ids if id not in found]:
            raise ValueError(
                f"{wanting} needs a prompt for every picture, and nothing says what {lacking[0]!r} should show; "
                "give --prompts FILE with these ids"
            )
        return found

    @cached_property
    def how(self) -> How:
        asked = self.request.resamples
        resamples = self.protocol.resamples if asked is None else asked
        return How(self.protocol, self.matched.paired, self.any_n, self.request.seed, frechet_resamples=resamples)

    def keep_rows(self) -> bool:
        return any(distance.needs_rows(self.how) for distance in self.chosen.distances)

    def result(self) -> Result | None:
        """All numbers; None while other processes still measure their shares."""
        chosen, ids = self.chosen, self.matched.ids
        extra = codebook_scores(self.home, ids, list(self.rows)) if chosen.codebook else {}
        known = self.real(None) if self.reference[1] is None else None  # a wrong file fails before the first picture
        seen = self.look("drawn", ids, self.sides, measures=chosen.measures, prompts=self.prompts)
        real = known or self.real(seen)
        if seen is None or real is None:
            return None
        return report(
            seen,
            list(self.rows),
            chosen,
            real.gathered,
            self.networks,
            self.how,
            reference=real.about,
            missing=self.matched.missing,
            settings=self.settings(),
            extra=extra,
        )

    def real(self, seen: Evidence | None) -> Real | None:
        """What the networks saw of the reference: in the same pass as the rest where its pictures are the originals."""
        ids, side = self.reference
        if side is None:
            assert self.request.reference is not None
            return real_statistics(self.request.reference, self.chosen, self.protocol, self.networks)
        evidence = seen if self.matched.paired else self.look("reference", ids, {TRUTH: side})
        if evidence is None:
            return None
        return real_pictures(evidence, self.chosen, self.protocol, paired=self.matched.paired)

    def look(self, name: str, ids: list[str], sides: Mapping[str, Side], **more: Any) -> Evidence | None:
        """One pass over some pictures, its shards under `out`."""
        plan = Pass(
            ids, sides, self.networks, self.chosen.extractors,
            keep_rows=self.keep_rows(), settings={"protocol": self.protocol.model_dump(mode="json")},
            allow_corrupt="corrupt" in self.request.allow, shard_size=self.request.shard_size, **more,
        )  # fmt: skip
        return self.measured(plan, name)

    def measured(self, plan: Pass, name: str, folder: Path | None = None) -> Evidence | None:
        """What this process's share, and all others, have seen; None while some of it is missing."""
        with tqdm(desc=f"looking at {name}", total=len(plan.ids), disable=None) as bar:
            evidence = measure(plan, folder or self.out, name, self.share, say=complain, looked_at=bar.update)
        # Scenes of a small world may coincide, and so may what a decoder makes of them; the report lists them.
        if evidence is not None and not self.request.world and "copies" not in self.request.allow:
            require_no_copies(evidence)
        return evidence

    def settings(self) -> dict[str, Any]:
        """What was asked, for the report."""
        asked = self.request
        about: dict[str, Any] = {
            "reference": str(asked.reference or f"{asked.world} {asked.split} scenes of the world")
        }
        about |= {"allow": list(asked.allow)} if asked.allow else {}
        return about | ({"same tokens": same_tokens(self.rows, self.matched.ids)} if asked.compare else {})


def complain(line: str) -> None:
    """One line on stderr."""
    print(f"detok: {line}", file=sys.stderr)
