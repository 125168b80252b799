"""The answers of a judge so far, kept line by line, so that hours of judging survive an interruption and can be read.

An answer is found again by what was judged (the picture's bytes and what was asked), never by its position; another
judge is another file. A last line that was cut off is judged again.

key -known?-> answer | judge, keep-> JUDGE.jsonl
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

SPELLING = re.compile(r"[^\w.-]+")


class Journal:
    """Answers of one judge to one benchmark.

    Args:
        folder: where `judged-NAME.jsonl` lies.
        name: judge and benchmark.
        judge: the judge's full identity; a short hash of it is part of the file's name.
    """

    def __init__(self, folder: Path, name: str, judge: str) -> None:
        short = hashlib.sha256(judge.encode()).hexdigest()[:8]
        self.path = folder / f"judged-{SPELLING.sub('-', name)}-{short}.jsonl"
        self.known: dict[str, Any] = {}
        self._whole = True
        if self.path.exists():
            self._read()

    def answer(self, picture: Path, asked: Any, where: str, judge: Callable[[], Any]) -> Any:
        """The known answer about this picture and question, or else the one that `judge` gives now."""
        question = json.dumps(asked, sort_keys=True, ensure_ascii=False)
        key = hashlib.sha256(picture.read_bytes() + question.encode()).hexdigest()
        if key not in self.known:
            self.known[key] = answer = judge()
            self._write({"key": key, "picture": where, "answer": answer})
        return self.known[key]

    def _read(self) -> None:
        text = self.path.read_text(encoding="utf-8", errors="replace")
        self._whole = not text or text.endswith("\n")
        for line in text.split("\n"):
            try:
                row = json.loads(line)
                self.known[row["key"]] = row["answer"]
            except (json.JSONDecodeError, KeyError, TypeError):
                continue  # cut off while it was written: asked again

    def _write(self, row: dict[str, Any]) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(("" if self._whole else "\n") + json.dumps(row, ensure_ascii=False) + "\n")
        except OSError as error:
            raise ValueError(f"cannot write {self.path}: {error.strerror or error}") from None
        self._whole = True
