"""Every command of `runs/*.sh` is one that `detok` understands: scripts run with stand-ins that only take notes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from detokenizers.cli import train, verbs
from detokenizers.cli.command_line import parse

RUNS = Path(__file__).parent.parent / "runs"
SCRIPTS = sorted(RUNS.glob("*.sh"))

NOTE = """#!/usr/bin/env bash
while [ "$1" != train ] && [[ $0 = */accelerate ]]; do shift; done
line=$(printf '%s\\t' "$@")
echo "$line" >>"$CALLS" # in one write: lanes of a script run side by side
out=${@: -1}
case $out in
  *.json) mkdir -p "$(dirname "$out")"; echo '{}' >"$out" ;;
  *) mkdir -p "$out/space"; echo 'reading:' >"$out/dcdd.yaml"; touch "$out"/{decoder,codebook}.safetensors ;;
esac
"""
"""In the place of `detok` and `accelerate`: writes down the arguments, leaves what later lines of a script look for."""
PYTHON = "#!/usr/bin/env bash\ncat >/dev/null </dev/null; echo 27.5 0.01\n"
"""In the place of `python`: the kappa and epsilon that scripts read from a calibration."""

SILENT = ("table5_janus.sh", "gpu_prepare.sh", "gpu_bench.sh")
"""Scripts that ask nothing of detok."""


@pytest.fixture
def theatre(tmp_path):
    """A folder with the scripts, stand-ins for all programs they call, and the data they expect."""
    shutil.copytree(RUNS, tmp_path / "runs")
    stand_ins = {"detok": NOTE, "accelerate": NOTE, "python": PYTHON, "python3": PYTHON}
    for name, text in stand_ins.items():
        (tmp_path / "bin" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    for folder in ("imagenet/train", "imagenet/val", "geneval/prompts"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "geneval/prompts/evaluation_metadata.jsonl").write_text('{"prompt": "a bench"}\n')
    return tmp_path


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_runs_to_its_end_and_every_command_is_understood(script, theatre):
    if script.name == "mini_tables.sh":  # it begins where mini_cpu.sh ends
        (theatre / "out/mini/rows/lc").mkdir(parents=True)
        for name in ("dcdd.yaml", "decoder.safetensors", "codebook.safetensors"):
            (theatre / "out/mini/rows/lc" / name).touch()
    calls = theatre / "calls"
    place = {**os.environ, "PATH": f"{theatre / 'bin'}:{os.environ['PATH']}", "CALLS": str(calls)}
    done = subprocess.run(
        ["bash", theatre / "runs" / script.name], env=place, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = {tuple(line.split("\t")[:-1]) for line in calls.read_text().splitlines()} if calls.exists() else set()
    assert rows or script.name in SILENT, "only benchmarks and preparations ask nothing of detok"
    for verb, *arguments in sorted(rows):
        if verb == "train":
            assert train.request(arguments[0], arguments).run.recipe == arguments[0]
        else:
            parse(verbs.VERBS[verb], arguments, prog=f"detok {verb}")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_says_what_it_makes_on_what_and_for_how_long(script):
    head = script.read_text().split("\n\n")[0] + script.read_text().split("set -euo pipefail")[0]
    assert all(word in head for word in ("# On:", "Takes", "# Makes:"))
