"""Random word vectors, of the size and the spread of a table of real ones: a control of MaDiT's Table 2b.

    python scripts/random_words.py mini/words out/madit/random_words [--seed 0]

table of words -its names; rows of normal numbers with its mean and spread in each dimension-> table of words
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from detokenizers.madit.vocabulary import Vocabulary


def main() -> None:
    parser = argparse.ArgumentParser(description="Random word vectors like those of another table.")
    parser.add_argument("like", help="folder of a table of words, or an embedded one: mini/words")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    table = Vocabulary.load(args.like)
    noise = torch.randn(table.rows.shape, generator=torch.Generator().manual_seed(args.seed))
    rows = table.rows.mean(0) + noise * table.rows.std(0)
    Vocabulary(table.pieces or table.names, rows).save(args.out, notes=f"{args.like} at random, seed {args.seed}")
    print(f"{len(rows)} words of {rows.shape[1]} random numbers in {args.out}")


if __name__ == "__main__":
    main()
