"""An evaluation from its settings: which pictures are measured against what, on which ids, by which metrics and rules.

Everything is made when it is first needed, and a wrong name fails before the first picture is read.

EvaluationConfig -> rows, reference, matched ids -> chosen metrics -> one pass (and one over the reference) -> Report
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ..data.images import ImageFile, find
from ..data.marks import RESULTS, require_ours, require_writable
from ..data.prompts import read_prompts
from ..device import device_of
from ..nn.world_net import load_world_net
from . import metrics
from .agreement import Agreement
from .distances import How
from .evaluation_settings import EvaluationConfig
from .measures import Measure
from .moments import Moments
from .networks import Networks
from .one_pass import TRUTH, Pass, Share, measure
from .references import Real, real_pictures, real_statistics, save_moments
from .reporting import Report, numbers_of, require_no_copies
from .rules import rules_of
from .shards import Evidence
from .sides import (
    FolderSide,
    Matched,
    Rows,
    SceneSide,
    asked_in,
    drawn_reader,
    manifest_of,
    matched,
    reference_reader,
    rows_of,
    two_rows,
)
from .tokens import codebook_scores, same_tokens
from .world_judge import world_judge

STATISTICS = (".safetensors", ".npz")


def evaluate(*drawn: str | Path, **settings: Any) -> Report | None:
    """Measure folders of pictures against a reference.

    Args:
        drawn: the folders, one row each, or what `generate` and `reconstruct` left, one row per decoder.
        settings: those of `EvaluationConfig`, e.g. `reference="real/"`, `metrics=["psnr"]`, `out="scores"`.

    Returns:
        The report; None while other processes still measure their shards.

    Raises:
        ValueError: settings, pictures or reference do not fit; nothing was measured, or only whole shards.
    """
    return evaluated(EvaluationConfig.parse({"drawn": drawn, **settings}))


def save_reference(path: str | Path, *pictures: str | Path, **settings: Any) -> str | None:
    """Measure real pictures only, one folder or `world=N` scenes, and write the statistics of the protocol's network.

    Returns:
        What was written, in one line; None while other processes still measure their shards.
    """
    return reference_saved(Path(path), EvaluationConfig.parse({"drawn": pictures, **settings}))


def evaluated(config: EvaluationConfig) -> Report | None:
    """The report that these settings ask for."""
    evaluator = Evaluator(config)
    require_ours(evaluator.out, RESULTS)
    numbers = evaluator.numbers()
    return None if numbers is None else Report(numbers, evaluator.out, evaluator.sides)


def reference_saved(path: Path, config: EvaluationConfig) -> str | None:
    """Statistics of the pictures that these settings name, in a file."""
    if path.suffix != ".safetensors":
        raise ValueError(f"--save-reference {path}: statistics are kept in a .safetensors file")
    if len(config.drawn) + bool(config.world) != 1:
        raise ValueError("--save-reference takes one folder of real pictures, or --world N scenes")
    if path.exists():
        Moments.load(path)  # fails where the file is none of ours and would be lost
    require_writable(path.parent)
    evaluator = Evaluator(config)
    rules, name = evaluator.rules, evaluator.rules.extractor
    ids, side = evaluator.scenes if config.world else evaluator.folder(find(config.drawn[0]), real=True)
    evidence = evaluator.measured(path.stem, ids, {TRUTH: side}, config.out or path.parent, extractors=(name,))
    if evidence is None:
        return None
    save_moments(path, evidence.side(TRUTH, name).moments, rules, evidence.hash(TRUTH))
    return f"{len(evidence.ids)} pictures, {name} features under the protocol {rules.name}, in {path}"


class Evaluator:
    """Settings and all that follows from them."""

    def __init__(self, config: EvaluationConfig) -> None:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        self.config, self.rules, self.share = config, rules_of(config.protocol), Share.parse(config.shard)
        own = {"world": lambda: load_world_net(config.net)}
        self.networks = Networks(device_of(config.device), resize=self.rules.resize, **own)

    @cached_property
    def size(self) -> int | None:
        """Side of the canonical picture; the embedded net's where the protocol leaves it to that."""
        if self.rules.extractor == "world" and self.rules.size is None:
            return self.networks["world"].config.resolution
        return self.rules.size

    @cached_property
    def rows(self) -> Rows:
        """The pictures that are measured, by decoder."""
        if not self.config.drawn and not self.config.compare:
            raise ValueError("name the folders of pictures to measure, or two of them with --compare A B")
        rows = rows_of(self.config.drawn)
        return two_rows(rows, self.config.compare) if self.config.compare else rows

    @cached_property
    def home(self) -> Path:
        """The first folder: its manifest holds the prompts, and the report goes there unless --out is given."""
        return next(iter(self.config.drawn), None) or Path((self.config.compare or ("",))[0])

    @property
    def out(self) -> Path:
        return self.config.out or self.home

    @property
    def scenes(self) -> tuple[list[str], SceneSide]:
        """Ids and scenes of the world."""
        if self.size is None:
            raise ValueError(f"the protocol {self.rules.name!r} has no size to draw scenes at; give --reference")
        scenes = SceneSide(self.config.world, self.size, self.config.split)
        return list(scenes.truths), scenes

    @cached_property
    def reference(self) -> tuple[list[str], FolderSide | SceneSide | None]:
        """Ids and pictures of the reference; neither when it is a file of statistics."""
        path = self.config.reference
        if bool(path) == bool(self.config.world):
            raise ValueError(
                "name the real pictures with --reference, or ask for --world N scenes; exactly one of the two"
            )
        if path is None:
            return self.scenes
        return ([], None) if path.suffix.lower() in STATISTICS else self.folder(find(path), real=True)

    def folder(self, files: list[ImageFile], *, real: bool) -> tuple[list[str], FolderSide]:
        """Ids and pictures of a folder, as the protocol reads them."""
        reader = reference_reader if real else drawn_reader
        return [file.id for file in files], FolderSide(files, reader(files, self.rules, self.size))

    @cached_property
    def matched(self) -> Matched:
        """The ids that are measured, their number being the protocol's."""
        expected = [row["id"] for row in manifest_of(self.home)]
        found = matched(self.rows, expected, self.reference[0], allow_missing="missing" in self.config.allow)
        self.rules.require_n(len(found.ids), any_n=self.config.any_n)
        return found

    @cached_property
    def sides(self) -> dict[str, FolderSide | SceneSide]:
        """Decoder name -> pictures; the originals first where ids pair up."""
        if TRUTH in self.rows:
            raise ValueError(f"a folder of drawn pictures cannot be called {TRUTH!r} here; rename it")
        drawn = {name: self.folder(files, real=False)[1] for name, files in self.rows.items()}
        truth = self.reference[1]
        return {**({TRUTH: truth} if self.matched.paired and truth else {}), **drawn}

    @cached_property
    def chosen(self) -> metrics.Chosen:
        """The metrics asked for, or the protocol's."""
        paired, asked = self.matched.paired, self.config.metrics
        judge = None if paired and not asked else self.judge
        names = asked or (self.rules.paired if paired else self.rules.unpaired)
        if judge is None and not asked:
            names = tuple(name for name in names if name != metrics.AGREEMENT)
        found = metrics.chosen(names, extractor=self.rules.extractor, judge=judge)
        for distance in found.distances:
            if distance.from_moments:  # what a Fréchet distance may be called, before the first picture
                self.rules.metric(distance.extractor, len(self.matched.ids), paired=paired, any_n=self.config.any_n)
        if pairs := [measure.name for measure in found.measures if measure.pairs and not paired]:
            raise ValueError(f"{pairs[0]} compares pairs, but no id of the pictures is one of the reference's")
        return found

    @cached_property
    def judge(self) -> Measure | None:
        """Prompt agreement, where every prompt is in the world's grammar."""
        asked = asked_in(self.home)
        if asked is None:
            return None
        identity = self.networks.extractor("world").identity
        return Agreement(lambda: world_judge(self.config.net, self.networks.device), asked, identity)

    @cached_property
    def prompts(self) -> dict[str, str] | None:
        """What the pictures should show, if a metric needs it."""
        needing = next((measure.name for measure in self.chosen.measures if measure.prompts), None)
        if needing is None:
            return None
        file, rows = self.config.prompts, manifest_of(self.home)
        found = (
            {one.id: one.text for one in read_prompts(file)}
            if file
            else {row["id"]: row["prompt"] for row in rows if "prompt" in row}
        )
        if lacking := [id for id in self.matched.ids if id not in found]:
            raise ValueError(
                f"{needing} needs a prompt for every picture, and there is none for {lacking[0]!r}; "
                "give --prompts FILE with these ids"
            )
        return found

    @cached_property
    def how(self) -> How:
        asked, config = self.config.resamples, self.config
        resamples = self.rules.resamples if asked is None else asked
        return How(self.rules, self.matched.paired, config.any_n, config.seed, frechet_resamples=resamples)

    def numbers(self) -> dict[str, Any] | None:
        """All numbers; None while other processes still measure their shards."""
        chosen, ids = self.chosen, self.matched.ids
        extra = codebook_scores(self.home, ids, list(self.rows)) if chosen.codebook else {}
        known = self.real(None) if self.reference[1] is None else None  # a wrong file fails before the first picture
        drawn = self.measured(
            "drawn", ids, self.sides, extractors=chosen.extractors, measures=chosen.measures, prompts=self.prompts
        )
        real = known or self.real(drawn)
        if drawn is None or real is None:
            return None
        return numbers_of(
            drawn,
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

    def real(self, drawn: Evidence | None) -> Real | None:
        """The reference's features: from the pass over the drawn where its pictures are the originals."""
        ids, side = self.reference
        if side is None:
            assert self.config.reference is not None
            return real_statistics(self.config.reference, self.chosen, self.rules, self.networks)
        if not self.matched.paired:
            drawn = self.measured("reference", ids, {TRUTH: side}, extractors=self.chosen.extractors)
        return drawn and real_pictures(drawn, self.chosen, self.rules, paired=self.matched.paired)

    def measured(
        self,
        name: str,
        ids: list[str],
        sides: Mapping[str, FolderSide | SceneSide],
        out: Path | None = None,
        **more: Any,
    ) -> Evidence | None:
        """One pass over some pictures, its shards under `out`; None while some shards are missing."""
        # Statistics that are to be saved are of moments alone; there is no report then.
        keep_rows = out is None and any(distance.needs_rows(self.how) for distance in self.chosen.distances)
        plan = Pass(
            ids,
            sides,
            self.networks,
            keep_rows=keep_rows,
            settings={"protocol": self.rules.model_dump(mode="json")},
            allow_corrupt="corrupt" in self.config.allow,
            shard_size=self.config.shard_size,
            **more,
        )
        with tqdm(desc=f"measuring {name}", total=len(ids), disable=None) as bar:
            evidence = measure(plan, out or self.out, name, self.share, bar.update)
        # Scenes of a small world may coincide, and so may what a decoder makes of them; the report lists them.
        if evidence is not None and not self.config.world and "copies" not in self.config.allow:
            require_no_copies(evidence)
        return evidence

    def settings(self) -> dict[str, Any]:
        """What was asked, for the report."""
        config = self.config
        about: dict[str, Any] = {
            "reference": str(config.reference or f"{config.world} {config.split} scenes of the world")
        }
        about |= {"allow": list(config.allow)} if config.allow else {}
        return about | ({"same tokens": same_tokens(self.rows, self.matched.ids)} if config.compare else {})
