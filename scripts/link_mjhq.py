"""MJHQ-30K as pictures with captions beside them, which is where every verb looks for them: links to the pictures, and the
prompt of each in NAME.txt.

    python scripts/link_mjhq.py mjhq30k/meta_data.json mjhq30k/imgs out/madit/mjhq

meta_data.json, CATEGORY/ID.jpg -> OUT/CATEGORY/{ID.jpg,ID.txt}
"""

from __future__ import annotations

import argparse
from pathlib import Path

from detokenizers.checkpoint import write_text
from detokenizers.evaluation.benchmarks.mjhq import read_mjhq
from detokenizers.evaluation.sides import files_of


def main() -> None:
    """Pictures stay where they are; what is linked already is linked again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("meta", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    prompts = read_mjhq(given.meta)
    for file, prompt in zip(files_of(given.pictures, list(prompts)), prompts.values(), strict=True):
        link = given.out / f"{file.id}{file.path.suffix}"
        write_text(link.with_suffix(".txt"), prompt.text + "\n")
        link.unlink(missing_ok=True)
        link.symlink_to(file.path.resolve())


if __name__ == "__main__":
    main()
