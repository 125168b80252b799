#!/usr/bin/env python3
"""VUGEN's and MaDiT's trainings and tables on the embedded stack, side by side on one GPU: the commands of the scripts
vugen_*.sh and madit_*.sh, each in a process of its own, started as soon as what it needs is there.

On:    one CUDA GPU and 16 CPU cores, bare or not (runs/gpu_prepare.sh). No network.
Takes: calls of any length. A first one starts a scheduler that runs on by itself, and waits for the given seconds; later
       ones wait on. Each prints what runs, how fast it steps, what is done and what failed; what failed is tried again by
       the next call. What is done is not done again.
Makes: out/gpu/{vugen,madit,mini,tables,logs}. With OUT set also tables, logs and the folders of out/gpu that KEEP names,
       as OUT/papers.tar.part-* of 15 MB each.

    python3 runs/gpu_papers.py 300                            # there, again and again until it prints "done"
    CHOSEN=none/terms python3 runs/gpu_papers.py 300          # once out/gpu/choice was judged: which decoders are drawn with
    PROBE=1 python3 runs/gpu_papers.py 90 language seed-      # a few steps and pictures of all tasks with such names
    PROBE=1 DEVICE=cpu JOBS=2 python3 runs/gpu_papers.py 3000 # here
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
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
CHOSEN = os.environ.get("CHOSEN", "")
PLACE = Path("out/probe" if PROBE else "out/gpu")
DONE, FAILED, RUNNING, LOGS = (PLACE / name for name in ("done", "failed", "running", "logs"))
SITE, PROGRAMS, MPS = Path("/tmp/site"), Path("/tmp/gpu_papers_bin"), Path("/tmp/gpu_papers_mps")

IMAGES = "--images.kept out/cache --train.workers 1" + (" --images.count 1024" if PROBE else "")
SEEDS, ROWS, RATIOS, SCALES = (
    (0, 1),
    ("vugen", "decoupled", "repa"),
    (),
    ("1", "1.5", "2", "3", "4", "6"),
)
DECODERS, PIXELS = ("terms", "none"), ("terms", "none")


LAST = -5
"""The trainings from here on start after everything else: Fig. 3's, and DCDD's."""


class Task(NamedTuple):
    name: str
    command: str
    needs: tuple[str, ...] = ()


def steps(full: int) -> str:
    """How long to train; a probe learns nothing, but takes whole steps."""
    return "--train.steps 24 --train.warmup 4" if PROBE else f"--train.steps {full}"


def tasks() -> list[Task]:
    """In the order in which they are started, if what they need is there."""
    mini, vugen = "src/detokenizers/embedded/mini", PLACE / "vugen"
    scenes = f"W(count={1024 if PROBE else 40960}, kept='out/cache').open()"
    first = [
        Task("scenes", f'python -c "from detokenizers.data.sources import WorldImages as W; {scenes}"'),
        Task(
            "shipped",  # the scripts find the embedded weights where their own trainings would have left them
            f"mkdir -p {vugen}/seed-0 {PLACE}/madit && cp -r {mini}/vugen/target {vugen}/autoencoder-1 && "
            f"cp -r {mini}/vugen {vugen}/seed-0/vugen && cp -r {mini}/madit {PLACE}/madit/mini_flow",
        ),
    ]
    if CHOSEN:
        first.append(Task("chosen", "python runs/gpu_papers.py choose", ("choice", "seed-1-vugen")))
    learnt = [Task(name, command, ("scenes", "shipped", *needs)) for name, command, needs in trainings()]
    return [*first, *learnt[:LAST], *tables(), *learnt[LAST:]]


def choose() -> None:
    """Put the decoders that CHOSEN names where the scripts look for them, and into the towers over their latents."""
    vugen, (decoder, pixels) = PLACE / "vugen", CHOSEN.split("/")
    places = [
        (vugen / f"decoder-{decoder}", vugen / "autoencoder"),
        (vugen / f"decoder-{decoder}-1", vugen / "autoencoder-1"),
    ]
    places += [
        (PLACE / f"mini/pixels-{pixels}", PLACE / "mini/pixels"),
        (PLACE / f"mini/pixels-{pixels}-1", PLACE / "mini/one_step"),
    ]
    places += [(places[1][0], tower / "target") for tower in vugen.glob("**/vugen") if tower.parts[-3] != "ratio"]
    for source, place in places:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(source, place, ignore=shutil.ignore_patterns("state*", "*.png", "log.jsonl"))


def trainings() -> list[Task]:
    tower, madit = steps(5500), dict(TRAIN=f"{IMAGES} {steps(0) if PROBE else ''}")
    few = f"{steps(2000)} {IMAGES}"
    distil = f"--cache out/cache {IMAGES} {steps(800)} --train.batch-size 64 --kept {64 if PROBE else 4096}"
    writer = "" if PROBE else "--images.count 40960 --train.batch-size 128 --train.steps 1800"

    def of_ratio(ratio: int) -> str:
        recipe = "mini_autoencoder" if ratio == 8 else f"mini_ratio_{ratio}"
        target = f"--model.target.folder {PLACE}/vugen/ratio/{ratio}/autoencoder"
        first = f"autoencoder ratio/{ratio}/autoencoder {recipe} {few}"
        return f"{first}; tower ratio/{ratio}/vugen mini {target} {tower} {IMAGES}"

    def settled(name: str, out: str) -> str:
        """A training by a file, of a decoder that is distilled afterwards."""
        yaml = f"python runs/gpu_papers.py yaml {name} && detok train {PLACE}/{name}.yaml --out {out}"
        return f"{yaml} && detok distill {out} {distil} --out {out}-1"

    return [
        Task("language", script("madit_mini.sh", "language", WRITER=writer, **madit)),
        *(Task(f"decoder-{name}", settled(name, f"{PLACE}/vugen/decoder-{name}")) for name in DECODERS),
        *(Task(f"pixels-{name}", settled(f"pixels-{name}", f"{PLACE}/mini/pixels-{name}")) for name in PIXELS),
        *(
            Task(
                f"seed-{seed}-{row}",
                script("vugen.bash", f"row seed-{seed} {row} --train.seed {seed} {tower} {IMAGES}"),
            )
            for seed in SEEDS
            for row in ROWS
            if (seed, row) != (0, "vugen")
        ),
        Task("sixteen", script("madit_mini.sh", "sixteen", **madit)),
        Task("sixteen-both", script("madit_mini.sh", "both", **madit)),
        Task("sixteen-encoder", script("madit_mini.sh", "encoder", **madit)),
        Task("janus", script("madit_mini.sh", "janus", **madit)),
        Task("distributions", script("madit_mini.sh", "distributions", **madit), ("language",)),
        *(Task(f"ratio-{ratio}", script("vugen.bash", of_ratio(ratio))) for ratio in RATIOS),
        Task("row-latent", script("vugen.bash", f"autoencoder rows/latent mini_latent_decoder {few}")),
        Task("row-joint", script("vugen.bash", f"autoencoder rows/joint mini_autoencoder_joint {few}")),
        Task("row-pca", script("vugen.bash", f"autoencoder rows/pca mini_autoencoder_pca {few}")),
        Task("row-whitened", script("vugen.bash", f"autoencoder rows/whitened mini_autoencoder {few}")),
        *(
            Task(f"fig3-{row}", script("vugen_tables.sh", "fig3_trained", ROWS=row, TOWER=IMAGES), ("chosen",))
            for row in ROWS
        ),
        *(
            Task(
                f"dcdd-{name}",
                f"python runs/gpu_papers.py yaml dcdd-{name} && "
                f"detok train {PLACE}/dcdd-{name}.yaml --cache out/cache --out {PLACE}/mini/dcdd-{name}",
            )
            for name in ("ours", "paper")
        ),
    ]


def tables() -> list[Task]:
    first, second = (tuple(f"seed-{seed}-{row}" for row in ROWS if (seed, row) != (0, "vugen")) for seed in SEEDS)
    choice = f"{PLACE}/vugen/decoder-{{terms,none}}-1 {PLACE}/mini/pixels-{{terms,none}}-1"
    rows, both = tuple(f"row-{name}" for name in ("latent", "joint", "pca", "whitened")), ("sixteen-both",)
    beside = {"BESIDE": f"{PLACE}/vugen/seed-0/vugen"}
    of_vugen = [
        ("table1-0", "table1", {"SEEDS": "0", "UNDERSTANDING": "yes"}, ("chosen", *first)),
        ("table1-1", "table1", {"SEEDS": "1"}, ("chosen", *second)),
        ("generation", "generation", {}, ("chosen",)),
        ("one_step", "one_step", {}, ("chosen",)),
        *((f"figS3-{scale}", "figS3", {"SCALES": scale}, ("chosen", *first)) for scale in SCALES),
        *((f"fig7-{ratio}", "fig7", {"RATIOS": str(ratio)}, (f"ratio-{ratio}",)) for ratio in RATIOS),
        ("fig6", "fig6", {}, ("chosen", *rows)),
        ("fig3", "fig3", {}, ("chosen", *(f"fig3-{row}" for row in ROWS))),
    ]
    of_madit = [
        ("table2b", {}, ("sixteen", "sixteen-encoder", *both)),
        ("table2a", {}, both),
        ("table3", beside, ("language", "chosen")),
        ("table1", beside, ("chosen",)),
        ("noise", {}, ("distributions",)),
        ("sweeps", {}, both),
        ("codewords", {}, both),
    ]
    return [
        Task(
            "choice",  # pictures for a judge that is not here
            f"bash -c 'detok reconstruct --world {16 if PROBE else 400} --decoder {choice} "
            f"--decode-batch 100 --device {DEVICE} --out {PLACE}/choice'",
            (*(f"decoder-{name}" for name in DECODERS), *(f"pixels-{name}" for name in PIXELS)),
        ),
        *(
            Task(f"vugen-{name}", script("vugen_tables.sh", call, **more, TABLES=f"{PLACE}/tables/{name}"), needs)
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
    of = {
        "VUGEN": f"{PLACE}/vugen",
        "MADIT": f"{PLACE}/madit",
        "PIXELS": f"{PLACE}/mini",
        "CACHE": "out/cache",
        "DEVICE": DEVICE,
        "UNDERSTANDING": "no",
    }
    if PROBE:
        return of | {"N": "16", "BATCH": "8", "TOWER_STEPS": "24", "RESAMPLES": "4"}
    return of | {"N": "1000", "BATCH": "125", "TOWER_STEPS": "4000"}


def write_yaml(name: str) -> None:
    """Trainings that no recipe is of, and that options cannot describe."""
    from detokenizers.papers import run_of
    from detokenizers.training.flow_networks import NoTerm

    def of(recipe: str, full: int, **changes: object):
        long = {"train.steps": 24, "train.warmup": 4, "images.count": 1024} if PROBE else {"train.steps": full}
        return run_of(recipe).vary(
            {**long, "train.batch_size": 64, "images.kept": "out/cache", "train.workers": 1, **changes}
        )

    none = {"perceptual": NoTerm(), "alignment": NoTerm()}
    stage_a = of("vugen.mini_autoencoder", 2500, start="mini/vugen/target")
    pixels = of("dcdd.mini_pixels", 2500, cache="out/cache", calibration="mini/dcdd/calibration.json")
    paper = of("dcdd.mini_paper", 4000, start=None)
    alike = {f"train.{key}": getattr(paper.train, key) for key in ("optimizer", "schedule", "lr")}
    run = {
        "terms": lambda: stage_a,
        "weak": lambda: stage_a.vary({"perceptual.weight": 0.1, "alignment.weight": 0.05}),
        "none": lambda: stage_a.vary(none),
        "coarse": lambda: stage_a.vary(
            {**none, "autoencoder.decoder.net.widths": (48, 96), "autoencoder.decoder.net.patch": 4}
        ),
        "pixels-terms": lambda: pixels,
        "pixels-none": lambda: pixels.vary(none),
        "dcdd-paper": lambda: paper,
        "dcdd-ours": lambda: of("dcdd.mini", 4000, **alike),
    }[name]()
    (PLACE / f"{name}.yaml").write_text(run.to_yaml())


# --- scheduling --------------------------------------------------------------------------------------------------


def schedule(chosen: list[Task]) -> None:
    """Start tasks until none is left to start; a finished one leaves a file in DONE or FAILED."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        done, failed = names(DONE), names(FAILED)
        running = {name for name in names(RUNNING) - done - failed if alive(int((RUNNING / name).read_text()))}
        waiting = [task for task in chosen if task.name not in done | failed | running]
        ready = [task for task in waiting if done.issuperset(task.needs)]
        for task in ready[: JOBS - len(running)]:
            run = f"{{ {task.command}; }} >{LOGS}/{task.name} 2>&1 && touch {DONE}/{task.name} || touch {FAILED}/{task.name}"
            process = subprocess.Popen(["bash", "-c", run], start_new_session=True)
            (RUNNING / task.name).write_text(str(process.pid))
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
    if sys.argv[1] == "yaml":
        return write_yaml(sys.argv[2])
    if sys.argv[1] == "choose":
        return choose()
    wanted = sys.argv[2:]
    chosen = [task for task in tasks() if not wanted or any(part in task.name for part in wanted)]
    everything = {task.name: task for task in tasks()}
    for task in chosen:  # and what they need
        chosen += [everything[name] for name in task.needs if name in everything and everything[name] not in chosen]
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
