"""Processes that share work: one that dies or fails ends the others in one clear line, and one that is done does not."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable

import pytest

from detokenizers import peers as module
from detokenizers.peers import Peers


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    monkeypatch.setattr(module, "BEAT", 0.02)
    monkeypatch.setattr(module, "GRACE", 0.2)


@pytest.fixture
def process(monkeypatch, tmp_path):
    """Starts a process of a given rank among several; all are gone in the end."""
    children: list[int] = []

    def start(rank: int, of: int, work: Callable[[Peers], object], *, ends: bool = False) -> int:
        child = os.fork()
        if child == 0:
            os.environ.update(RANK=str(rank), WORLD_SIZE=str(of))
            code = 0
            try:
                sys.stderr = (tmp_path / f"{rank}.err").open("w")
                with Peers(tmp_path, ends=ends) as peers:
                    work(peers)
            except ValueError as error:
                (tmp_path / f"{rank}.txt").write_text(str(error))
                code = 1
            finally:
                os._exit(code)
        children.append(child)
        return child

    def here(rank: int, of: int) -> Peers:
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", str(of))
        return Peers(tmp_path)

    start.here = here
    yield start
    for child in children:
        try:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


def until(found: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def end_of(context: Peers, work: Callable[[Peers], object]) -> str:
    with pytest.raises(ValueError) as caught, context as peers:
        work(peers)
    return str(caught.value)


def fail(text: str):
    def work(peers: Peers) -> None:
        until(lambda: peers.seen)
        raise ValueError(text)

    return work


def test_one_process_alone_leaves_nothing(tmp_path):
    with Peers(tmp_path / "work") as peers:
        peers.wait(lambda: True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_was_killed_ends_the_one_that_waits(process, rank, monkeypatch):
    def kills_and_waits(peers: Peers) -> None:
        child = process(rank, 2, lambda _: time.sleep(60))
        until(lambda: peers.seen)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        monkeypatch.setattr(module, "SILENCE", 0.5)
        peers.wait(lambda: False)

    line = f"process {rank} of 2 has died: no sign of it for 0.5 seconds; the same command goes on where it stopped"
    assert end_of(process.here(1 - rank, 2), kills_and_waits) == line


def test_the_line_of_a_process_that_failed_is_the_line_of_all(process, tmp_path):
    process(0, 3, lambda peers: peers.wait(lambda: False))
    process(1, 3, fail("cannot read a.png"))
    with pytest.raises(ValueError, match=r"^process 1 of 3 failed: cannot read a.png$"), process.here(2, 3) as peers:
        peers.wait(lambda: False)
    until((tmp_path / "0.txt").exists)
    assert (tmp_path / "0.txt").read_text() == "process 1 of 3 failed: cannot read a.png"


def test_a_process_that_hangs_is_ended_with_one_line_when_another_has_failed(process, tmp_path):
    hangs = process(1, 2, lambda _: time.sleep(60), ends=True)
    with pytest.raises(ValueError, match="the loss became nan"), process.here(0, 2) as peers:
        fail("the loss became nan")(peers)
    assert os.waitstatus_to_exitcode(os.waitpid(hangs, 0)[1]) == 2
    assert (tmp_path / "1.err").read_text() == "detok: process 0 of 2 failed: the loss became nan\n"


def test_a_process_that_is_done_is_not_dead(process, tmp_path, monkeypatch):
    with process.here(0, 2) as peers:
        child = process(1, 2, lambda peers: until(lambda: peers.seen))
        os.waitpid(child, 0)
        until(lambda: peers.seen)
        monkeypatch.setattr(module, "SILENCE", 0.01)
        time.sleep(0.5)
        peers.wait(lambda: True)
        assert peers.trouble is None
    assert not (tmp_path / ".processes").exists()


def test_a_process_that_was_done_before_another_came_has_come(process, tmp_path, monkeypatch):
    os.waitpid(process(1, 3, lambda _: None), 0)
    monkeypatch.setattr(module, "START", 0.5)
    with process.here(0, 3) as peers:
        process(2, 3, lambda peers: until(lambda: peers.seen))
        began = time.monotonic()
        peers.wait(lambda: time.monotonic() - began > 1)
    until(lambda: not (tmp_path / ".processes").exists())


def test_what_an_earlier_command_had_done_does_not_count(process, tmp_path, monkeypatch):
    (tmp_path / ".processes").mkdir()
    (tmp_path / ".processes/1").write_text(f"{module.DONE}{time.time() - 2 * module.START}")
    monkeypatch.setattr(module, "START", 0.5)
    with pytest.raises(ValueError, match="process 1 of 2 never came"), process.here(0, 2) as peers:
        peers.wait(lambda: False)


def test_a_process_that_never_comes_is_named(process, monkeypatch):
    monkeypatch.setattr(module, "START", 0.5)
    with pytest.raises(ValueError, match="process 1 of 2 never came; start all of them"), process.here(0, 2) as peers:
        peers.wait(lambda: False)


def test_what_an_earlier_command_left_says_nothing(process, tmp_path):
    (tmp_path / ".processes").mkdir()
    (tmp_path / ".processes" / "1").write_text("failed: long ago")
    with process.here(0, 2) as peers:
        time.sleep(0.3)
        assert peers.trouble is None
        process(1, 2, lambda _: time.sleep(60))
        until(lambda: peers.seen)
        assert peers.trouble is None


def test_a_connection_that_another_process_left_is_one_line(process):
    def tears(_: Peers) -> None:
        raise RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:5")

    def breaks(_: Peers) -> None:
        raise RuntimeError("shapes")

    line = "another of the 2 processes has died; the same command goes on where it stopped"
    assert end_of(process.here(0, 2), tears) == line
    with pytest.raises(RuntimeError, match="shapes"), process.here(0, 2) as peers:
        breaks(peers)
