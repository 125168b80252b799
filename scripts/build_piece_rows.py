"""The words that a full-size MaDiT reads: a language model's table of embeddings as it is now, and its tokenizer.

    python scripts/build_piece_rows.py Qwen/Qwen2.5-7B-Instruct out/madit/qwen_words

folder | Hub id -> OUT/words.safetensors [v e] in fp16, OUT/tokenizer.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tokenizers import Tokenizer

from detokenizers.madit.vocabulary import Vocabulary
from detokenizers.pretrained.vlm.language_models import PublishedLanguageModel
from detokenizers.pretrained.vlm.visual_vocabulary import tables


def main() -> None:
    """Load the language model, keep one of its matrices."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="a folder or a Hub id, owner/name")
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    model, words = PublishedLanguageModel(name=given.name).build([])
    rows, _ = tables(model)
    Vocabulary(Tokenizer.from_str(words.backend_tokenizer.to_str()), rows).save(given.out)
    print(f"{rows.shape[0]} rows of {rows.shape[1]} numbers in {given.out}")


if __name__ == "__main__":
    main()
