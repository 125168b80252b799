#!/usr/bin/env python3
"""VUGEN's and MaDiT's trainings and tables on the embedded stack, side by side on one GPU: the functions of vugen_*.sh and
madit_*.sh, each in a process of its own, started as soon as what it needs is there.

On:    one CUDA GPU and 16 CPU cores, bare or not (runs/gpu_prepare.sh). No network.
Takes: calls of any length. A first one starts a scheduler that runs on by itself, and waits for the given seconds; later
       ones wait on. Each prints what runs, how fast it steps, what is done and what failed; what failed is tried again by
       the next call, what is done is not done again. A machine that is lent goes back when no call comes for half a minute.
Makes: out/gpu/{vugen,madit,mini,tables,logs}. With OUT set also tables, logs and the folders of out/gpu that KEEP names,
       as OUT/papers.tar.part-* of 15 MB each.

    python3 runs/gpu_papers.py 300                            # there, again and again until it prints "done"
    KEEP="vugen/decoder* madit/mini_language" python3 runs/gpu_papers.py 300 drawing language      # these tasks alone
    PROBE=1 DEVICE=cpu JOBS=2 python3 runs/gpu_papers.py 3000 # here: a few steps and pictures of everything
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PROBE = bool(os.environ.get("PROBE"))
DEVICE = os.environ.get("DEVICE", "cuda")
JOBS = int(os.environ.get("JOBS", "18"))
PLACE = Path("out/probe" if PROBE else "out/gpu")
DONE, FAILED, RUNNING, LOGS = (PLACE / name for name in ("done", "failed", "running", "logs"))
SITE, PROGRAMS, MPS = Path("/tmp/site"), Path("/tmp/gpu_papers_bin"), Path("/tmp/gpu_papers_mps")

SEEDS, ROWS = (0, 1), ("vugen", "decoupled", "repa")
COMPARED = ("whitened", "joint", "pca", "latent")  # Fig. 6
RATIOS, SCALES = (1, 32, 4, 16, 8), ("1", "1.5", "2", "3", "4", "6")


class Task(NamedTuple):
    name: str
    command: str
    needs: tuple[str, ...] = ()


def tasks() -> list[Task]:
    """In the order in which they are started, if what they need is there."""
    return [*beginnings(), *trainings(), *tables()]


def beginnings() -> list[Task]:
    """Scenes, and the embedded weights where the scripts' own trainings would have left them; then runs from elsewhere."""
    mini, vugen, carried = "src/detokenizers/embedded/mini", PLACE / "vugen", ".carried/runs"
    scenes = f"W(count={1024 if PROBE else 40960}, kept='out/cache').open()"
    return [
        Task("scenes", f'python -c "from detokenizers.data.sources import WorldImages as W; {scenes}"'),
        Task(
            "shipped",
            f"mkdir -p {vugen}/seed-0 {PLACE}/madit && cp -r {mini}/vugen/target {vugen}/autoencoder && "
            f"cp -r {mini}/vugen {vugen}/seed-0/vugen && cp -r {mini}/madit {PLACE}/madit/mini_flow && "
            f"{{ [ ! -d {carried} ] || cp -r {carried}/. {PLACE}; }}",
        ),
    ]


def trainings() -> list[Task]:
    """The longest chains first. The embedded reducer and the tower of seed 0 are taken as they are."""
    of = [
        ("language", script("madit_mini.sh", "language"), ()),
        ("drawing", script("vugen.bash", "drawing"), ()),
        ("pixels", script("vugen.bash", "pixels"), ()),
        *(
            (f"seed-{seed}-{row}", script("vugen.bash", f"row seed-{seed} {row} --train.seed {seed}"), needs_of(row))
            for seed in SEEDS
            for row in ROWS
            if (seed, row) != (0, "vugen")
        ),
        *((name, script("madit_mini.sh", name), ()) for name in ("sixteen", "both", "encoder", "janus")),
        ("distributions", script("madit_mini.sh", "distributions"), ("language",)),
        *((f"ratio-{ratio}", script("vugen_tables.sh", "fig7_trained", RATIOS=str(ratio)), ()) for ratio in RATIOS),
        *((f"rows-{row}", script("vugen_tables.sh", "fig6_trained", COMPARED=row), ()) for row in COMPARED),
        *((f"fig3-{row}", script("vugen_tables.sh", "fig3_trained", ROWS=row), needs_of(row)) for row in ROWS),
    ]
    return [Task(name, command, ("scenes", "shipped", *needs)) for name, command, needs in of]


def needs_of(row: str) -> tuple[str, ...]:
    return ("drawing",) if row == "vugen" else ()


def tables() -> list[Task]:
    first, second = (tuple(f"seed-{seed}-{row}" for row in ROWS if (seed, row) != (0, "vugen")) for seed in SEEDS)
    beside = {"BESIDE": f"{PLACE}/vugen/seed-0/vugen"}
    of_vugen = [
        ("table1-0", "table1", {"SEEDS": "0", "UNDERSTANDING": "yes"}, first),
        ("table1-1", "table1", {"SEEDS": "1"}, second),
        ("generation", "generation", {}, ("pixels",)),
        ("one_step", "one_step", {}, ("pixels",)),
        *((f"figS3-{scale}", "figS3", {"SCALES": scale}, first) for scale in SCALES),
        *((f"fig7-{ratio}", "fig7", {"RATIOS": str(ratio)}, (f"ratio-{ratio}",)) for ratio in RATIOS),
        ("fig6", "fig6", {}, tuple(f"rows-{row}" for row in COMPARED)),
        ("fig3", "fig3", {}, tuple(f"fig3-{row}" for row in ROWS)),
    ]
    of_madit = [
        ("table2b", {}, ("sixteen", "encoder", "both")),
        ("table2a", {}, ("both",)),
        ("table3", beside, ("language",)),
        ("table1", beside, ()),
        ("noise", {}, ("distributions",)),
        ("sweeps", {}, ("both",)),
        ("codewords", {}, ("both",)),
    ]
    return [
        *(
            Task(
                f"vugen-{name}",
                script("vugen_tables.sh", call, **more, TABLES=f"{PLACE}/tables/{name}"),
                ("shipped", "drawing", *needs),
            )
            for name, call, more, needs in of_vugen
        ),
        *(
            Task(
                f"madit-{name}",
                script("madit_tables.sh", name, **more, TABLES=f"{PLACE}/tables/{name}"),
                ("shipped", *needs),
            )
            for name, more, needs in of_madit
        ),
    ]


def script(name: str, call: str, **settings: str) -> str:
    """A function of a run script, with settings."""
    words = " ".join(f"{key}={shlex.quote(value)}" for key, value in settings.items())
    return f"{words} runs/{name} {call}" if name.endswith(".sh") else f"{words} bash -euc 'source runs/{name}; {call}'"


def settings_of_scripts() -> dict[str, str]:
    images = "--images.kept out/cache --train.workers 1"
    few = " --images.count 1024 --train.steps 24 --train.warmup 4" if PROBE else ""
    of = {"VUGEN": f"{PLACE}/vugen", "MADIT": f"{PLACE}/madit", "PIXELS": f"{PLACE}/mini", "CACHE": "out/cache"}
    of |= {name: images + few for name in ("STAGE_A", "TOWER", "PIXEL", "TRAIN")}
    of |= {"DISTIL": images + (few + " --kept 64" if PROBE else "")}
    of = {name: f"{options} {os.environ.get(name, '')}" if "--" in options else options for name, options in of.items()}
    of |= {"DEVICE": DEVICE, "UNDERSTANDING": "no"}
    if PROBE:
        return of | {"N": "16", "BATCH": "8", "ROW_STEPS": "24", "TOWER_STEPS": "24", "RESAMPLES": "4"}
    steps = {name: os.environ.get(name, value) for name, value in {"ROW_STEPS": "2000", "TOWER_STEPS": "4000"}.items()}
    return of | {"N": "1000", "BATCH": "125"} | steps


# --- scheduling --------------------------------------------------------------------------------------------------


def schedule(chosen: list[Task]) -> None:
    """Start tasks until none is left to start; a finished one leaves a file in DONE or FAILED."""
    children: list[subprocess.Popen[bytes]] = []
    while True:
        done, failed = names(DONE), names(FAILED)
        running = {name for name in names(RUNNING) - done - failed if alive(int((RUNNING / name).read_text()))}
        waiting = [task for task in chosen if task.name not in done | failed | running]
        ready = [task for task in waiting if done.issuperset(task.needs)]
        for task in ready[: JOBS - len(running)]:
            run = (
                f"( {task.command} ) >{LOGS}/{task.name} 2>&1 && touch {DONE}/{task.name} || touch {FAILED}/{task.name}"
            )
            after = str(min(chosen.index(task), 15))  # earlier ones first, also in CPU time
            children.append(subprocess.Popen(["nice", "-n", after, "bash", "-c", run], start_new_session=True))
            (RUNNING / task.name).write_text(str(children[-1].pid))
        children = [child for child in children if child.poll() is None]
        if not running and not ready:
            return
        time.sleep(0.5)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def prepare() -> None:
    """Packages, programs and folders."""
    for folder in (DONE, FAILED, RUNNING, LOGS, PROGRAMS):
        folder.mkdir(parents=True, exist_ok=True)
    if DEVICE == "cuda" and Path(".whl").is_dir() and not SITE.exists():
        options = ["-q", "--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--upgrade", "--target"]
        subprocess.run(
            [sys.executable, "-m", "pip", "install", *options, SITE, *Path(".whl").glob("*.whl")], check=True
        )
    if DEVICE == "cuda":  # the checkout is not installed there, and reports name its version
        about = SITE / "detokenizers-0.dist-info" / "METADATA"
        about.parent.mkdir(parents=True, exist_ok=True)
        version = tomllib.loads(Path("pyproject.toml").read_text())["project"]["version"]
        about.write_text(f"Metadata-Version: 2.1\nName: detokenizers\nVersion: {version}\n")
    for program, module in (("python", ""), ("detok", "-m detokenizers")):
        path = PROGRAMS / program
        path.write_text(f'#!/bin/sh\nexec {sys.executable} {module} "$@"\n')
        path.chmod(0o755)
    os.environ |= settings_of_scripts() | {
        "PATH": f"{PROGRAMS.resolve()}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT / 'src'}:{SITE}",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if DEVICE == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "1"


def share_gpu() -> None:
    """Let kernels of several processes run at once (CUDA MPS), if this machine has what it takes."""
    if DEVICE != "cuda":
        return
    tried = {"CUDA_MPS_PIPE_DIRECTORY": str(MPS), "CUDA_MPS_LOG_DIRECTORY": str(MPS)}
    if not MPS.exists():
        MPS.mkdir()
        with contextlib.suppress(OSError):
            subprocess.run(["nvidia-cuda-mps-control", "-d"], env=os.environ | tried, timeout=20, check=False)
        test = "import torch; print(torch.ones(8, device='cuda').sum().item())"
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            found = subprocess.run(
                [sys.executable, "-c", test], env=os.environ | tried, timeout=60, capture_output=True, text=True
            )
            print("MPS:", found.stdout.strip(), found.stderr.strip()[-300:])
            if found.returncode == 0:
                (MPS / "works").touch()
    if (MPS / "works").exists():
        os.environ |= tried


@cache
def started() -> float:
    return time.monotonic()


def report(before: dict[Path, tuple[float, int]]) -> dict[Path, tuple[float, int]]:
    """Print what runs and how fast, what is done, what failed."""
    now, steps_of = time.time(), {}
    for log in PLACE.glob("**/log.jsonl"):
        rows = log.read_text().splitlines()
        if rows and now - log.stat().st_mtime < 60:
            with contextlib.suppress(ValueError):
                steps_of[log] = (log.stat().st_mtime, json.loads(rows[-1])["step"])
    rates = []
    for log, (when, step) in steps_of.items():
        then, past = before.get(log, (0.0, 0))
        rate = f" {(step - past) / (when - then):.0f}/s" if then and when > then else ""
        rates.append(f"{log.parent.relative_to(PLACE)} {step}{rate}")
    done, failed = names(DONE), names(FAILED)
    running = sorted(names(RUNNING) - done - failed)
    print(f"[{time.monotonic() - started():.0f} s] done {len(done)}: {' '.join(sorted(done))}")
    print(f"  running {len(running)}: {' '.join(running)}\n  {'; '.join(sorted(rates))}")
    for name in sorted(failed):
        lines = (LOGS / name).read_text().strip().splitlines()[-4:]
        print(f"  FAILED {name}: " + " | ".join(line.strip()[:240] for line in lines))
    sys.stdout.flush()
    return steps_of


def collect() -> None:
    """Tables without their pictures, logs, and what KEEP names, for the way back."""
    out = os.environ.get("OUT")
    if not out:
        return
    files = [path for kind in ("md", "json", "jsonl") for path in (PLACE / "tables").glob(f"**/*.{kind}")]
    files += [path for path in (PLACE / "tables").glob("**/sheet.png") if path.stat().st_size < 400_000]
    files += [*LOGS.iterdir(), *PLACE.glob("**/loss.png")]
    for kept in os.environ.get("KEEP", "").split():
        for folder in PLACE.glob(kept):
            files += [
                path
                for path in [folder, *folder.glob("**/*")]
                if path.is_file() and "state" not in path.name and "state" not in path.parent.parts
            ]
    listed = "\n".join(str(path) for path in files if path.exists())
    packed = f"tar -cf - -T - | split -b 15M - {shlex.quote(out)}/papers.tar.part-"
    subprocess.run(["bash", "-c", packed], input=listed, text=True, check=True)


def main() -> None:
    os.chdir(ROOT)
    wanted = sys.argv[2:]
    chosen = [task for task in tasks() if not wanted or any(part in task.name for part in wanted)]
    everything = {task.name: task for task in tasks()}
    for task in chosen:  # and what they need
        chosen += [everything[name] for name in task.needs if everything[name] not in chosen]
    chosen = [task for task in everything.values() if task in chosen]
    prepare()
    if sys.argv[1] == "schedule":
        return schedule(chosen)
    share_gpu()
    started()
    pid = PLACE / "scheduler"
    if pid.exists():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid.read_text()), signal.SIGKILL)
    for name in names(FAILED):
        (FAILED / name).unlink()
        (RUNNING / name).unlink(missing_ok=True)
    scheduler = subprocess.Popen([sys.executable, __file__, "schedule", *wanted], start_new_session=True)
    pid.write_text(str(scheduler.pid))
    seen: dict[Path, tuple[float, int]] = {}
    shown = 0.0
    while (now := time.monotonic() - started()) < float(sys.argv[1]) and scheduler.poll() is None:
        if now - shown > 20:
            seen, shown = report(seen), now
        time.sleep(0.5)
    report(seen)
    collect()
    if scheduler.poll() is not None:
        print(
            "done"
            if names(DONE).issuperset(task.name for task in chosen)
            else "not all of it can be done; the logs tell why"
        )


if __name__ == "__main__":
    main()
