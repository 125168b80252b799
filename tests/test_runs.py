"""The scripts of the paper's tables run to their end, tiny, as they are: every command does its work on random
checkpoints and on pictures like ImageNet's (tests/paper_stack.py). Every command of the other scripts, which train for
hours, is at least one that `detok` understands: they run with stand-ins that only take notes. The scripts of VUGEN run in
tests/test_vugen_scripts.py, those of MaDiT in tests/test_madit_scripts.py."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from detokenizers.cli import train, verbs
from detokenizers.cli.command_line import parse

from . import paper_stack, script_server

RUNS = Path(__file__).parent.parent / "runs"
SCRIPTS = sorted(RUNS.glob("*.sh"))
OTHERS = [path for path in SCRIPTS if not path.name.startswith(("table", "vugen", "madit"))]
NEEDS = {
    "table2_janus.sh": ("table1_janus.sh",),
    "table4_janus.sh": ("table1_janus.sh",),
    **{f"table{number}_janus.sh": ("table1_janus.sh", "table2_janus.sh") for number in (3, 5, 6)},
}

NOTE = """#!/usr/bin/env bash
while [ "$1" != train ] && [[ $0 = */accelerate ]]; do shift; done
line=$(printf '%s\\t' "$@")
echo "$line" >>"$CALLS" # in one write: lanes of a script run side by side
out=${@: -1}
case $out in
  *.json) mkdir -p "$(dirname "$out")"; echo '{}' >"$out" ;;
  *) mkdir -p "$out/space"; echo 'kind: dcdd' >"$out/decoder.yaml"; touch "$out"/{decoder,codebook}.safetensors ;;
esac
"""
"""In the place of `detok` and `accelerate`: writes down the arguments, leaves what later lines of a script look for."""
PYTHON = "#!/usr/bin/env bash\ncat >/dev/null </dev/null\n"
"""In the place of `python`."""

SILENT = ("gpu_prepare.sh", "gpu_bench.sh")
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
    return tmp_path


@pytest.mark.parametrize("script", OTHERS, ids=lambda path: path.name)
def test_a_script_runs_to_its_end_and_every_command_is_understood(script, theatre):
    if script.name == "mini_tables.sh":  # it begins where mini_cpu.sh ends
        rows = (f"out/mini/rows/{name}{seed}" for name in ("hard", "lcdm", "lc", "both") for seed in ("", "-seed1"))
        for folder in ("src/detokenizers/embedded/mini/dcdd", "out/mini/any", *rows):
            (theatre / folder).mkdir(parents=True)
            for name in ("decoder.yaml", "decoder.safetensors", "codebook.safetensors"):
                (theatre / folder / name).touch()
    calls = theatre / "calls"
    place = {**os.environ, "PATH": f"{theatre / 'bin'}:{os.environ['PATH']}", "CALLS": str(calls)}
    done = subprocess.run(
        ["bash", theatre / "runs" / script.name], env=place, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = {tuple(line.split("\t")[:-1]) for line in calls.read_text().splitlines()} if calls.exists() else set()
    assert rows or script.name in SILENT, "only benchmarks and preparations ask nothing of detok"
    if script.name == "mini_tables.sh":
        assert "no row one_step: there is no mini/one_step" in done.stderr
        assert all(any(f"out/mini/rows/{name}" in row for row in rows) for name in ("lc", "both-seed1"))
        assert any("out/tables/decoders/ours" in row for row in rows)
    for verb, *arguments in sorted(rows):
        understood(verb, arguments)


def understood(verb: str, arguments: list[str]) -> None:
    if verb == "train":
        assert train.parsed(arguments).run.recipe == arguments[0]
    else:
        parse(verbs.VERBS[verb], arguments, prog=f"detok {verb}")


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    """Runs a table's script, and before it those that it needs, on the tiny stack; returns the folder they share."""
    place = tmp_path_factory.mktemp("paper")
    paper_stack.build(place)
    finished = set()
    with script_server.running(place, TRAIN=paper_stack.TRAIN) as script_run:

        def run(script: str) -> Path:
            for needed in (*NEEDS.get(script, ()), script):
                if needed not in finished:
                    script_run(needed)
                    finished.add(needed)
            return place

        yield run


def metrics_in(folder: Path) -> dict[str, dict]:
    """Decoder -> metric -> value, of an evaluation's report."""
    decoders = json.loads((folder / "results.json").read_text())["decoders"]
    return {name: {key: one["value"] for key, one in found["metrics"].items()} for name, found in decoders.items()}


def test_table_1_finds_a_calibration(paper):
    janus = paper("table1_janus.sh") / "out/janus"
    assert len(list((janus / "sample").iterdir())) == 1
    for name in ("calibration", "calibration_paper"):
        report = json.loads((janus / f"{name}.json").read_text())
        assert report["calibration"]["kappa"] > 10
        assert abs(report["achieved"]["mean_entropy"] - report["targets"]["mean_entropy"]) <= 0.02
    assert "| normalized entropy |" in (janus / "calibration.md").read_text()


def test_table_2_trains_with_that_calibration_and_measures_every_kind_of_picture(paper):
    janus = paper("table2_janus.sh") / "out/janus"
    found = json.loads((janus / "calibration.json").read_text())["calibration"]
    trained = yaml.safe_load((janus / "dcdd/decoder.yaml").read_text())
    assert trained["calibration"] == found
    assert len(list((janus / "table2/imagenet/original").rglob("*.png"))) == 6
    for data, number in (("imagenet", 6), ("mjhq", 20)):
        measured = metrics_in(janus / "table2" / data / "evaluated")
        assert list(measured) == ["vq", "dcdd"]
        assert {"rfid", "ssim_uniform7", "ssim_gaussian11", "psnr", "lpips_alex", "lpips_vgg"} <= set(measured["dcdd"])
        assert json.loads((janus / "table2" / data / "evaluated/results.json").read_text())["n"] == number


def test_table_3_draws_and_scores_both_benchmarks(paper):
    table = paper("table3_janus.sh") / "out/janus/table3"
    assert set(metrics_in(table / "mjhq/evaluated")["dcdd"]) >= {"overall", "animals", "vehicles"}
    assert list(metrics_in(table / "geneval/evaluated")) == ["vq", "dcdd"]
    assert len(list((table / "geneval/dcdd").rglob("*.png"))) == 24


def test_table_4_trains_three_rows_on_one_cache(paper):
    place = paper("table4_janus.sh")
    assert list(metrics_in(place / "out/janus/table4/evaluated")) == ["hard", "lcdm", "lc"]
    assert len(list((place / "out/cache").iterdir())) == 1


def test_table_5_times_both_decoders(paper):
    lines = (paper("table5_janus.sh") / "out/janus/table5/latency.jsonl").read_text().splitlines()
    assert [json.loads(line)["steps"] for line in lines] == [10, 25, 30]


def test_table_6_measures_every_number_of_steps(paper):
    table = paper("table6_janus.sh") / "out/janus/table6"
    assert "rfid" in metrics_in(table / "vq/evaluated")["vq"]
    steps = [metrics_in(table / f"steps_{steps}/evaluated")["dcdd"]["psnr"] for steps in range(5, 40, 5)]
    assert len(set(steps)) == 7


def test_table_7_is_all_of_it_for_llamagen(paper):
    table = paper("table7_llamagen.sh") / "out/llamagen"
    assert list(metrics_in(table / "imagenet/evaluated")) == ["vq", "dcdd"]
    assert "overall" in metrics_in(table / "gmjhq/evaluated")["dcdd"]
    assert list(metrics_in(table / "geneval/evaluated")) == ["vq", "dcdd"]


def test_the_embedded_stack_is_made_from_nothing_and_its_tables_are_taken(tmp_path):
    """Every training of the real nets for two steps, each with what those before it left; then tables of eight pictures."""
    mini, tables = tmp_path / "out/mini-tiny", tmp_path / "out/tables"
    (tmp_path / "scripts").symlink_to(RUNS.parent / "scripts")
    with script_server.running(tmp_path) as run:
        run("mini_cpu.sh", TINY="1")
        named = {"PAPER": "dcdd", "OURS": "any", "ONE_STEP": "one_step", "ROWS": "rows", "VLM": "vlm"}
        where = {name: f"out/mini-tiny/{folder}" for name, folder in named.items()}
        run("mini_tables.sh", "table2", "table3", "table4", N="8", **where)
    found = json.loads((mini / "calibration.json").read_text())["calibration"]
    read = {
        row: yaml.safe_load((mini / row / "decoder.yaml").read_text())
        for row in ("dcdd", "any", "rows/lc", "rows/hard")
    }
    for row in ("dcdd", "any", "rows/lc"):  # the VLM's own calibration, which was not known before it was trained
        assert read[row]["calibration"]["kappa"] == found["kappa"]
    assert [one["lcdm"]["name"] for one in read.values()] == ["expectation", "committed", "expectation", "hard_codes"]
    assert read["rows/hard"]["calibration"]["kappa"] != found["kappa"]
    shipped = {
        path.relative_to(mini / "shipped").as_posix() for path in (mini / "shipped").rglob("*") if path.is_file()
    }
    assert {"vlm/model.safetensors", "dcdd/calibration.json", "vae/config.json", "world_net/run.yaml"} <= shipped
    assert "name: mini/vae" in (mini / "shipped/dcdd/decoder.yaml").read_text()
    assert not any(name.startswith("dcdd/space") for name in shipped)
    assert not any("state" in name or name.endswith((".png", ".jsonl")) for name in shipped)
    rows = ["dcdd", "cold", "ours", "one_step"]
    assert list(metrics_in(tables / "table2/held-out/evaluated")) == ["vq", "vq-unrounded", "vae", *rows, "vq+unsharp"]
    assert list(metrics_in(tables / "table3/prompts/evaluated")) == ["vq", *rows, "vq+unsharp"]
    kinds = ["hard", "lcdm", "lc", "committed", "teacher_forced", "both", "vq"]
    assert list(metrics_in(tables / "table4/generation/evaluated")) == kinds
    assert "fd_world" in metrics_in(tables / "table4/reconstruction/lcdm-lc")["lc"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_says_what_it_makes_on_what_and_for_how_long(script):
    head = script.read_text().split("\n\n")[0] + script.read_text().split("set -euo pipefail")[0]
    assert all(word in head for word in ("# On:", "Takes", "# Makes:"))
