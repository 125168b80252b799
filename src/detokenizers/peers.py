"""Whether the other processes of a command are alive, for as long as they share a piece of work.

Each writes a sign of life into a hidden folder beside the work, that it is done, or the line of its error. The first
watches all others and they watch the first, so that whoever dies ends all, wherever it is waiting: launchers end only
their own children, and neither a wait for files nor a wait within a collective ends by itself.

with Peers(folder) as peers: own share of the work, peers.wait(until all is there) ; a dead peer -> one clear line
"""

from __future__ import annotations

import math
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from .device import rank, world_size

BEAT = 2.0
"""Seconds from one sign of life to the next."""
SILENCE = 120.0
"""Seconds without one after which a process that was alive counts as dead."""
START = 600.0
"""Seconds of waiting for a process of which there has been no sign at all."""
GRACE = 5.0
"""Seconds in which a process may end by its own error before it is ended."""
DONE = "done: "
FAILED = "failed: "
SIGNS = ".processes"
AGAIN = "the same command goes on where it stopped"


class Peers:
    """This process among those that share the work in a folder; alone it deletes the signs of earlier ones.

    Args:
        ends: end this process when another has died, since it may be waiting in a collective that never returns;
            otherwise `wait` raises.
    """

    def __init__(self, folder: Path, *, ends: bool = False) -> None:
        self.folder, self.ends = folder / SIGNS, ends
        self.rank, self.number = rank(), world_size()
        self.watched = range(1, self.number) if self.rank == 0 else range(min(1, self.number - 1))
        self.trouble: str | None = None
        self.over = threading.Event()

    def __enter__(self) -> Peers:
        if self.number > 1:
            self.folder.mkdir(parents=True, exist_ok=True)
            # What a process of an earlier command left says nothing until it changes.
            self.last = {peer: self._read(peer) for peer in self.watched}
            began = time.time() - START  # but one with little to do may be done before this one has come
            self.seen: dict[int, float] = {peer: math.inf for peer, text in self.last.items() if _done(text) > began}
            self.thread = threading.Thread(target=self._watch, daemon=True)
            self.thread.start()
        elif self.folder.is_dir():
            shutil.rmtree(self.folder)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self.number == 1:
            return
        lost = error is not None and _is_lost_connection(error)
        deadline = time.monotonic() + GRACE
        while lost and not self.trouble and time.monotonic() < deadline:  # its last line may be about to be read
            time.sleep(0.1)
        self.over.set()
        self.thread.join()
        message = self.trouble or f"another of the {self.number} processes has died; {AGAIN}"
        if error is not None:
            self._write(FAILED + (message if lost else " ".join(f"{error}".split()) or type(error).__name__))
        else:
            self._write(f"{DONE}{time.time()}")
            if all(_done(self._read(peer)) for peer in range(self.number)):
                shutil.rmtree(self.folder, ignore_errors=True)
        if lost:
            raise ValueError(message) from None

    def wait(self, done: Callable[[], bool]) -> None:
        """Until the others have done their share.

        Raises:
            ValueError: one of them has died, or never came.
        """
        began = time.monotonic()
        while not done():
            if self.trouble:
                raise ValueError(self.trouble)
            missing = [peer for peer in self.watched if peer not in self.seen]
            if missing and time.monotonic() - began > START:
                raise ValueError(f"process {missing[0]} of {self.number} never came; start all of them, {AGAIN}")
            time.sleep(0.2)

    def _watch(self) -> None:
        beats, found_out = 0, 0.0
        while True:
            beats += 1
            self._write(f"{os.getpid()} {time.time_ns()} {beats}")
            self.trouble = self.trouble or self._look()
            if self.trouble and self.ends:
                found_out = found_out or time.monotonic()
                if time.monotonic() - found_out > GRACE:
                    self._write(FAILED + self.trouble)
                    print(f"detok: {self.trouble}", file=sys.stderr, flush=True)
                    os._exit(2)
            if self.over.wait(BEAT):
                return

    def _look(self) -> str | None:
        """What is wrong with a process that is watched, if anything."""
        now = time.monotonic()
        for peer in self.watched:
            text = self._read(peer)
            if text != self.last[peer]:
                self.last[peer] = text
                self.seen[peer] = math.inf if _done(text) or not text else now  # the last takes all signs away
                if text.startswith(FAILED):
                    line = text.removeprefix(FAILED)
                    return line if line.startswith("process ") else f"process {peer} of {self.number} failed: {line}"
            elif now - self.seen.get(peer, now) > SILENCE:
                return f"process {peer} of {self.number} has died: no sign of it for {SILENCE:g} seconds; {AGAIN}"
        return None

    def _read(self, peer: int) -> str:
        try:
            return (self.folder / str(peer)).read_text(encoding="utf-8")
        except OSError:
            return ""

    def _write(self, text: str) -> None:
        path = self.folder / str(self.rank)
        with suppress(OSError):  # a full disk stops the work itself, in its own words
            unfinished = path.with_name(f".{path.name}")
            unfinished.write_text(text, encoding="utf-8")
            unfinished.replace(path)


def _done(text: str) -> float:
    """The time at which the process with this sign was done; 0 if it is not."""
    return float(text.removeprefix(DONE)) if text.startswith(DONE) else 0.0


def _is_lost_connection(error: BaseException) -> bool:
    """Whether a collective failed because a process at its other end is gone."""
    import torch.distributed as dist

    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo/transport" in f"{error}")
