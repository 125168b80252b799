"""Runs the commands of a script without starting Python for each of them: `python -m tests.script_server SOCKET` has
imported everything, and forks one process per command. `install` writes the stand-ins that hand commands over.

The numbers of protocols and benchmarks are made those of tests/paper_stack.py, and the networks that look are random.

detok | accelerate | python -argv, folder, environment, stdout, stderr-> server -fork-> the command itself -> exit code
"""

from __future__ import annotations

import json
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

CLIENT = """#!{python} -SE
import array, json, os, socket, sys
if sys.argv[1:2] == ["-"] or sys.argv[1:2] == ["-c"]:
    os.execv("{python}", ["{python}", *sys.argv[1:]])
to = socket.socket(socket.AF_UNIX)
to.connect("{address}")
what = json.dumps([os.path.basename(sys.argv[0]), sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
to.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [1, 2]))])
to.sendall(what)
to.shutdown(socket.SHUT_WR)
sys.exit(int(to.recv(8) or b"1"))
"""
"""Hands one command over; what reads a program from its arguments needs no torch and is Python's own business."""


def install(folder: Path, address: Path) -> None:
    """Write `detok`, `accelerate`, `python` and `python3` into a folder."""
    folder.mkdir()
    for name in ("detok", "accelerate", "python", "python3"):
        (folder / name).write_text(CLIENT.format(python=sys.executable, address=address))
        (folder / name).chmod(0o755)


@contextmanager
def running(place: Path, **settings: str) -> Iterator[Callable[..., str]]:
    """While it lasts, `run(script, *arguments, **settings)` runs a script of `runs/` below `place` and returns what it
    printed; the settings are environment variables."""
    root = Path(__file__).parent.parent
    shutil.copytree(root / "runs", place / "runs")
    (place / "benchmarks").symlink_to(root / "benchmarks")
    install(place / "bin", place / "socket")
    environment = {
        **os.environ, "PATH": f"{place / 'bin'}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1", "DEVICE": "cpu",
        "ACCELERATE_USE_CPU": "1", "DETOK_WEIGHTS": str(place), "HF_HUB_OFFLINE": "1", **settings,
    }  # fmt: skip

    def run(script: str, *arguments: str, **more: str) -> str:
        command = ["bash", str(place / "runs" / script), *arguments]
        done = subprocess.run(command, env=environment | more, capture_output=True, text=True, timeout=1800)
        assert done.returncode == 0, f"{script}: {done.stderr[-3000:]}"
        return done.stdout

    command = [sys.executable, "-m", "tests.script_server", str(place / "socket")]
    with subprocess.Popen(command, cwd=root, env=environment) as server:
        while not (place / "socket").exists():
            assert server.poll() is None
            time.sleep(0.05)
        try:
            yield run
        finally:
            server.terminate()


def serve(address: Path) -> None:
    """Until the process is ended."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(address))
    listening.listen()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        asked, _ = listening.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            answer(asked)
        asked.close()


def answer(asked: socket.socket) -> None:
    """Run what was asked in a process of its own, and say how it ended."""
    _, (out, err), _, _ = socket.recv_fds(asked, 1, 2)
    words = b"".join(iter(lambda: asked.recv(2**16), b""))
    worker = os.fork()
    if worker == 0:
        os.dup2(out, 1)
        os.dup2(err, 2)
        code = 1
        try:
            code = execute(*json.loads(words))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    asked.sendall(str(os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])).encode())
    os._exit(0)


def execute(program: str, arguments: list[str], folder: str, environment: dict[str, str]) -> int:
    """One command, as if it had been started."""
    from detokenizers import checkpoint
    from detokenizers.cli import main

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if "STACK" in environment:  # a tiny stack in the place of the embedded one
        checkpoint.EMBEDDED = Path(environment["STACK"])
    torch.set_num_threads(1)
    if program == "accelerate":
        arguments = launched(arguments)
    elif program.startswith("python") and arguments[:2] == ["-m", "detokenizers"]:
        arguments = arguments[2:]
    elif program.startswith("python"):
        sys.argv, sys.path[:0] = arguments, [str(Path(arguments[0]).parent)]
        runpy.run_path(arguments[0], run_name="__main__")
        return 0
    if calls := environment.get("CALLS"):
        with Path(calls).open("a") as file:
            file.write(json.dumps(arguments) + "\n")
    return main(arguments)


def launched(arguments: list[str]) -> list[str]:
    """What `accelerate launch` would run, in every one of its processes; here in one."""
    from accelerate.commands.config import load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    verb, *rest = arguments
    read = launch_command_parser().parse_args(rest)
    assert (verb, read.module, read.training_script) == ("launch", True, "detokenizers"), arguments
    if read.config_file:
        assert load_config_from_file(read.config_file).fsdp_config["fsdp_version"] == 2
    return read.training_script_args


def shrink() -> None:
    """Numbers of protocols and benchmarks, for as many and as small pictures as the tiny data sets hold."""
    from detokenizers.evaluation import networks
    from detokenizers.evaluation import rules as protocols
    from detokenizers.evaluation.benchmarks import dpg_questions, mjhq
    from detokenizers.evaluation.benchmarks import geneval_prompts as geneval
    from detokenizers.pretrained.networks import mask2former
    from detokenizers.pretrained.networks.lpips import LPIPS
    from detokenizers.pretrained.vlm import llamagen
    from detokenizers.pretrained.weights import published

    from . import paper_stack

    class Looks(torch.nn.Module):
        """In the place of Inception: colour statistics, and an identity like that of a published file."""

        identity = "tiny"

        def features(self, images: torch.Tensor) -> torch.Tensor:
            return self.pooled((images + 1) * 127.5)

        def pooled(self, levels: torch.Tensor) -> torch.Tensor:
            return torch.cat([levels.mean((2, 3)), levels.std((2, 3))], 1)

    def lpips() -> LPIPS:
        torch.manual_seed(0)
        net = LPIPS("alex")
        net.identity = "tiny"
        return net

    class Agrees(torch.nn.Module):
        """In the place of CLIP: light pictures fit all prompts."""

        identity = "tiny"

        def features(self, images: torch.Tensor) -> torch.Tensor:
            return torch.cat([images.mean((2, 3)), torch.ones(len(images), 1)], 1)

        def texts(self, prompts: list[str]) -> torch.Tensor:
            return torch.ones(len(prompts), 4)

    LPIPS.load = classmethod(lambda cls, net, path=None: LPIPS(net).requires_grad_(False))
    looking = {"inception": Looks, "lpips-alex": lpips, "lpips-vgg": lpips, "clip-datacomp": Agrees}
    networks.published = lambda: looking
    dpg_questions.ITEMS = 2
    llamagen.STAGES["t2i_XL_stage1_256"] = paper_stack.LLAMAGEN
    mask2former.SHORT, mjhq.EACH = paper_stack.PIXELS, 2
    clip = published.CLIP_OPENAI
    published.PUBLISHED[clip] = replace(published.PUBLISHED[clip], sha256=None)
    geneval.TASKS.update(dict.fromkeys(geneval.TASKS, 1))
    for name, make in protocols.PROTOCOLS.items():
        if name.startswith(("dcdd", "madit", "evalgim-coco")):
            protocols.PROTOCOLS[name] = resized(make, 20 if "mjhq" in name else 6)


def resized(protocol: Callable, number: int) -> Callable:
    from .paper_stack import PIXELS

    return lambda: protocol().vary({"size": PIXELS, "num_images": number})


def main(address: Path) -> None:
    import diffusers.pipelines  # noqa: F401  (what commands import late, once for all)

    torch.set_num_threads(1)
    shrink()
    serve(address)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
