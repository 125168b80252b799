"""Words beside tokens: rows of a language model's word embeddings, as they were before it learnt any visual word.

They are a snapshot and never learn here, unless a control of Table 2b asks for it; fine-tuning the language model changes
its own table, not this one.

captions -tokenizer-> word ids -rows-> vectors [b s e], keep [b s]
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from tokenizers import Tokenizer
from torch import Tensor, nn

from ..checkpoint import fingerprint, load_tensors, resolve, save_tensors, write_text

log = logging.getLogger(__name__)

ROWS, NAMES, PIECES = "words.safetensors", "words.txt", "tokenizer.json"


class Words(NamedTuple):
    """Captions as padded rows of word vectors. Rows that are not kept change nothing."""

    vectors: Float[Tensor, "b s e"]
    keep: Bool[Tensor, "b s"]

    def repeated(self, times: int) -> Words:
        """The batch several times over, one after the other."""
        return Words(self.vectors.repeat(times, 1, 1), self.keep.repeat(times, 1))


class Vocabulary(nn.Module):
    """A frozen table of word vectors, and how captions become its rows: by whole words of a closed world, or by the pieces
    of a language model's tokenizer, which spell anything.

    Args:
        names: one per row, lower case; or the tokenizer.
        rows: their vectors.
        length: the longest caption in words; of pieces, how many of a caption are read.
        learn: whether the rows learn with the model. Then they are part of its weights.
    """

    rows: Float[Tensor, "w e"]

    def __init__(
        self, names: Sequence[str] | Tokenizer, rows: Float[Tensor, "w e"], length: int = 128, *, learn: bool = False
    ) -> None:
        super().__init__()
        self.pieces = names if isinstance(names, Tokenizer) else None
        names = [] if isinstance(names, Tokenizer) else names
        if self.pieces is None and len(names) != len(rows):
            raise ValueError(f"{len(names)} words but {len(rows)} rows; each word has one")
        self.names, self.length, self.warned = list(names), length, False
        self.numbers = {name: number for number, name in enumerate(self.names)}
        rows = rows.detach().float().clone()
        if learn:
            self.rows = nn.Parameter(rows)
        else:
            self.register_buffer("rows", rows, persistent=False)

    def ids(self, captions: Sequence[str]) -> Int[Tensor, "b s"]:
        """Numbers of the words of captions, right-padded with -1; as long as the longest of them.

        Raises:
            ValueError: an unknown word, or one word too many; of pieces, which spell anything, those too many are left out.
        """
        listed = [self._listed(caption) for caption in captions]
        longest = max(map(len, listed), default=0)
        return torch.tensor([row + [-1] * (longest - len(row)) for row in listed], dtype=torch.long).view(
            len(listed), longest
        )

    def words(self, ids: Int[Tensor, "b s"]) -> Words:
        """The vectors of numbered words."""
        ids = ids.to(self.rows.device)
        return Words(self.rows[ids.clamp_min(0)], ids >= 0)

    def forward(self, captions: Sequence[str]) -> Words:
        return self.words(self.ids(captions))

    def fingerprint(self) -> str:
        spelling = "\n".join(self.names) if self.pieces is None else self.pieces.to_str()
        return fingerprint({"names": torch.tensor(list(spelling.encode())), "rows": self.rows})

    def save(self, folder: str | Path, *, notes: str | None = None) -> None:
        """Write names, or the tokenizer, and rows (fp16)."""
        save_tensors(Path(folder) / ROWS, {"rows": self.rows}, dtype=torch.float16, notes=notes)
        if self.pieces is None:
            write_text(Path(folder) / NAMES, "\n".join(self.names) + "\n")
        else:
            write_text(Path(folder) / PIECES, self.pieces.to_str())

    @classmethod
    def load(cls, name: str | Path, length: int = 128, *, learn: bool = False) -> Vocabulary:
        """Read a table from a folder, or an embedded one; with `learn` it goes on learning.

        Raises:
            ValueError: there is none.
        """
        folder = resolve(name)
        rows = load_tensors(folder / ROWS)
        if "rows" in rows and (folder / PIECES).is_file():
            return cls(Tokenizer.from_file(str(folder / PIECES)), rows["rows"], length, learn=learn)
        if "rows" not in rows or not (folder / NAMES).is_file():
            raise ValueError(f"{folder} holds no table of words ({ROWS} with rows, and {NAMES} or {PIECES})")
        names = (folder / NAMES).read_text(encoding="utf-8").split("\n")[:-1]
        return cls(names, rows["rows"], length, learn=learn)

    def _listed(self, caption: str) -> list[int]:
        if self.pieces is not None:
            return self._beginning(self.pieces.encode(caption, add_special_tokens=False).ids, caption)
        words = re.findall(r"[^\s.,;:!?\"()]+", caption.lower())
        if unknown := [word for word in words if word not in self.numbers]:
            raise ValueError(
                f"the word {unknown[0]!r} of {caption!r} is not among this table's {len(self.names)} words"
            )
        if len(words) > self.length:
            raise ValueError(
                f"a caption of {len(words)} words is too long; this model reads {self.length}: {caption!r}"
            )
        return [self.numbers[word] for word in words]

    def _beginning(self, ids: list[int], caption: str) -> list[int]:
        # PAPER GAP (docs/madit.md#captions): captions of the world at large have any length; some of MJHQ-30K's are longer.
        if len(ids) > self.length and not self.warned:
            self.warned = True
            log.warning("only the first %d pieces of a caption are read, not the end of %.60r...", self.length, caption)
        return ids[: self.length]
