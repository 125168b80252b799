"""What a user does with the Hub, in a process of its own, because huggingface-hub reads HF_ENDPOINT when it is imported:

python -m tests.hub.push_and_fetch EMBEDDED RUN RESULTS -> JSON
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

import detokenizers as dt
from detokenizers import checkpoint
from detokenizers.pipelines import TokenDecoderPipeline

PROMPT = "a red apple on a wooden table"


def drawn(pipe) -> torch.Tensor:
    return pipe(PROMPT, generator=torch.Generator().manual_seed(0), output_type="pt", num_inference_steps=2).images


def refused(call) -> str:
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def main(embedded: str, run: str, results: str) -> None:
    checkpoint.EMBEDDED = Path(embedded)
    torch.set_num_threads(1)
    found = {}
    dcdd = dt.load(run)
    about = {"results": results, "license": "mit"}
    found["commit"] = str(dcdd.push_to_hub("me/tiny-dcdd", model_card_kwargs=about))
    again = dt.load("me/tiny-dcdd")
    found["same weights"] = again.fingerprint() == dcdd.fingerprint()
    found["same by class"] = (
        dt.DCDD.from_pretrained("me/tiny-dcdd", revision="main").fingerprint() == dcdd.fingerprint()
    )
    again.push_to_hub("me/second")  # what was fetched is pushed on, with its records
    pipe = dt.pipeline("mini", decoder=run)
    found["pipeline"] = pipe.push_to_hub("me/tiny-pipe", commit_message="First")
    before = drawn(pipe)
    found["same pictures"] = torch.equal(drawn(dt.pipeline("me/tiny-pipe")), before)
    found["same from class"] = torch.equal(drawn(TokenDecoderPipeline.from_pretrained("me/tiny-pipe")), before)
    pipe.save_pretrained(Path(run).parent / "saved", push_to_hub=True, repo_id="me/tiny-pipe")
    found["nothing there"] = refused(lambda: dt.load("me/nothing"))
    found["no pipeline there"] = refused(lambda: dt.pipeline("me/nothing"))
    found["without a token"] = refused(lambda: dcdd.push_to_hub("me/other", token="hf_wrong"))
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
