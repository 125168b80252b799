"""`detok evaluate`: folders of pictures against a reference, by named metrics under a named protocol, with intervals.

folders, reference -pair up by id?-> one pass over shards -> reconstruction (PSNR, SSIM, PD, FD) | generation (FD, KD,
density, coverage, agreement) -> results.json, results.md, evaluation.png, the table on stdout.
"""

from __future__ import annotations

from pathlib import Path

import torch

from ..data.images import find
from ..data.marks import RESULTS, require_ours
from ..evaluation.benchmarks import scoring
from ..evaluation.evaluate import Evaluation
from ..evaluation.moments import Moments
from ..evaluation.one_pass import TRUTH, Pass
from ..evaluation.references import save_reference
from ..evaluation.same_tokens import sheet
from ..evaluation.tables import markdown, save
from .verbs import Evaluate


def run(request: Evaluate) -> None:
    """Measure, write the report, print the table; with --save-reference only the reference's statistics."""
    scoring.require_fitting(request)
    if request.bench:
        scoring.run(request)
        return
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    evaluation = Evaluation(request)
    if request.save_reference:
        remember(evaluation, request.save_reference)
        return
    require_ours(evaluation.out, RESULTS)
    result = evaluation.result()
    if result is None:
        print(f"this share is done; when the others are, the last of them reports to {evaluation.out}")
        return
    save(result, evaluation.out)
    shown = sheet(evaluation.out, result["ids"], evaluation.sides)
    print(markdown(result) + (f"\nLook at {shown}\n" if shown else ""), end="")


def remember(evaluation: Evaluation, path: Path) -> None:
    """Look at the real pictures only, and write the statistics of the protocol's network."""
    request, protocol = evaluation.request, evaluation.protocol
    if path.suffix != ".safetensors":
        raise ValueError(f"--save-reference {path}: statistics are kept in a .safetensors file")
    if len(request.drawn) + bool(request.world) != 1:
        raise ValueError("--save-reference looks at one folder of real pictures, or at --world N scenes")
    if path.exists():
        Moments.load(path)  # fails where the file is none of ours and would be lost
    if request.world:
        ids, side = evaluation.reference
    else:
        ids, side = evaluation.folder(find(request.drawn[0]), real=True)
    assert side is not None
    name = protocol.extractor
    plan = Pass(
        ids,
        {TRUTH: side},
        evaluation.networks,
        (name,),
        settings={"protocol": protocol.model_dump(mode="json")},
        shard_size=request.shard_size,
        allow_corrupt="corrupt" in request.allow,
    )
    evidence = evaluation.measured(plan, path.stem, request.out or path.parent)
    if evidence is None:
        print(f"this share is done; when the others are, the last of them writes {path}")
        return
    save_reference(path, evidence.side(TRUTH, name).moments, protocol, evidence.hash(TRUTH))
    print(f"{len(evidence.ids)} pictures seen by {name} under the protocol {protocol.name}, in {path}")
