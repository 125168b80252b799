"""`detok generate --bench` and `detok evaluate --bench`, end to end: official layouts, judges, refusals in one line."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detokenizers.cli import main
from detokenizers.data.world.scenes import parse
from detokenizers.drawing.layouts import KINDS, new_captions
from detokenizers.evaluation import benchmarks
from detokenizers.evaluation.benchmarks import geneval
from detokenizers.evaluation.benchmarks.dpg_questions import COLUMNS
from detokenizers.evaluation.benchmarks.geneval_rules import Detection
from tests.pretrained.judges import save_clip, save_detector, save_examiner

pytestmark = pytest.mark.usefixtures("embedded")
ASKS = [
    {"tag": "single_object", "include": [{"class": "dog", "count": 1}], "prompt": "a dog on grass"},
    {"tag": "colors", "include": [{"class": "apple", "count": 1, "color": "red"}], "prompt": "a red apple on grass"},
]
QUESTIONS = [
    ("one", "a dog on grass", 1, "0", "entity", "whole", "Is there a dog?"),
    ("one", "a dog on grass", 2, "1", "attribute", "color", "Is there a red dog?"),
    ("two", "two cats on grass", 1, "0", "entity", "whole", "Is there a cat?"),
]
META = {
    "aa": {"category": "animals", "prompt": "a dog on grass"},
    "bb": {"category": "animals", "prompt": "a cat on grass"},
    "cc": {"category": "food", "prompt": "a red apple on grass"},
    "dd": {"category": "food", "prompt": "a green apple on grass"},
}
FILES = {"geneval": "evaluation_metadata.jsonl", "dpg": "dpg_bench.csv", "mjhq": "meta_data.json"}


def write(bench: str, folder: Path) -> Path:
    """A small official file."""
    path = folder / FILES[bench]
    if bench == "geneval":
        path.write_text("".join(json.dumps(one) + "\n" for one in ASKS))
    elif bench == "mjhq":
        path.write_text(json.dumps(META))
    else:
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for id, text, number, parents, broad, detailed, question in QUESTIONS:
                proposition = f"{broad} - {detailed} (x)"
                writer.writerow([id, text, "", number, parents, broad, detailed, proposition, question])
    return path


@pytest.fixture(scope="module")
def judges(tmp_path_factory):
    """Folders of tiny judges."""
    folder = tmp_path_factory.mktemp("judges")
    return {
        "detector": save_detector(folder / "detector"),
        "clip": save_clip(folder / "clip"),
        "examiner": save_examiner(folder / "examiner"),
    }


def draw(bench: str, folder: Path, *more: object) -> Path:
    """Draw a small benchmark by both decoders."""
    file = ["--bench-file", write(bench, folder), "--partial"] if bench in FILES else []
    out = folder / "out"
    command = ["generate", "--bench", bench, *file, "--compare", "--steps", "1", *more, "--out", out]
    assert main([str(part) for part in command]) == 0
    return out


@pytest.fixture(scope="module")
def shelf():
    """Folders drawn once, for tests that only look at them."""
    return {}


@pytest.fixture
def drawn(shelf, tmp_path, tmp_path_factory):
    """A copy of a small drawn benchmark in `tmp_path`, with its official file."""

    def copy(bench: str) -> Path:
        if bench not in shelf:
            count = ["--count", 12] if bench == "world" else []
            shelf[bench] = draw(bench, tmp_path_factory.mktemp(bench), *count).parent
        shutil.copytree(shelf[bench], tmp_path, dirs_exist_ok=True)
        return tmp_path / "out"

    return copy


def score(out: Path, bench: str, *more: object) -> dict:
    """Score it, and return results.json."""
    file = ["--bench-file", out.parent / FILES[bench], "--partial"] if bench in FILES else []
    assert main([str(part) for part in ("evaluate", out, "--bench", bench, *file, *more)]) == 0
    return json.loads((out / "results.json").read_text())


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.*"))}


def test_geneval_is_drawn_in_its_layout_and_goes_on_where_it_stopped(tmp_path):
    out = draw("geneval", tmp_path)
    drawn = files(out / "dcdd")
    pictures = [f"{prompt:05d}/samples/{sample:04d}.png" for prompt in (0, 1) for sample in range(4)]
    assert sorted(drawn) == sorted([*pictures, "00000/metadata.jsonl", "00001/metadata.jsonl"])
    assert json.loads(drawn["00001/metadata.jsonl"]) == ASKS[1]
    assert len({drawn[name] for name in pictures}) == 8
    for name in pictures[::3]:
        (out / "dcdd" / name).unlink()
    draw("geneval", tmp_path, "--batch", "3")
    assert files(out / "dcdd") == drawn


def test_geneval_is_judged_by_rules_over_what_a_detector_finds(tmp_path, monkeypatch, capsys, drawn):
    out = drawn("geneval")
    seen = []

    def judges_of(request):
        def detect(picture):
            """A dog in every picture, and an apple in the brighter half of all."""
            seen.append(picture)
            return [Detection(16, 0.9, (0, 0, 8, 8)), Detection(47, 0.8, (0, 0, 8, 8))]

        return geneval.Judges(detect, lambda picture, some, name: ["red"] * len(some), "an oracle")

    monkeypatch.setattr(geneval, "judges_of", judges_of)
    result = score(out, "geneval")
    assert result["tag"] == "geneval-hf"
    for name in ("vq", "dcdd"):
        metrics = result["decoders"][name]["metrics"]
        assert {key: metrics[key]["value"] for key in ("score", "single_object", "colors")} == {
            "score": 1.0, "single_object": 1.0, "colors": 1.0,
        }  # fmt: skip
    assert result["differences"]["dcdd - vq"]["metrics"]["score"]["value"] == 0
    assert result["n"] == {"vq": 8, "dcdd": 8}
    printed = capsys.readouterr().out
    assert "PARTIAL" in printed
    assert "no: judged by mmdet" in printed
    assert (out / "results.md").read_text() in printed
    assert len(seen) == 16

    monkeypatch.setattr(geneval, "verdict", lambda *_: 1 / 0)  # all is in the journal: nothing is judged again
    assert score(out, "geneval")["decoders"] == result["decoders"]


def test_geneval_runs_through_mask2former_and_clip(tmp_path, judges, monkeypatch, drawn):
    monkeypatch.setattr("detokenizers.pretrained.networks.mask2former.SHORT", 64)
    monkeypatch.setattr("detokenizers.evaluation.benchmarks.geneval_rules.CONFIDENCE", 0.0)
    out = drawn("geneval")
    result = score(out, "geneval", "--judge", judges["detector"], "--colour-judge", judges["clip"])
    assert "detector@sha256:" in result["judge"]
    assert "clip@sha256:" in result["judge"]
    rows = [json.loads(line) for line in Path(result["judged"]).read_text().splitlines()]
    assert len(rows) == 16
    assert any(row["answer"]["found"] for row in rows)


def test_dpg_is_drawn_as_grids_of_its_samples(tmp_path):
    out = draw("dpg", tmp_path)
    assert sorted(path.name for path in (out / "dcdd" / "grids").iterdir()) == ["one.png", "two.png"]
    with Image.open(out / "dcdd" / "grids" / "one.png") as grid:
        pixels = np.asarray(grid)
    assert pixels.shape == (32, 32, 3)
    with Image.open(out / "dcdd" / "samples" / "one-2.png") as sample:
        assert (pixels[16:, :16] == np.asarray(sample)).all()
    before = files(out)
    draw("dpg", tmp_path)
    assert files(out) == before


def test_dpg_is_examined_question_by_question_and_the_journal_spares_a_second_time(
    tmp_path, judges, monkeypatch, drawn
):
    out = drawn("dpg")
    result = score(out, "dpg", "--judge", judges["examiner"])
    assert result["tag"] == "dpg-examiner"
    journal = Path(result["judged"])
    rows = {one["picture"]: one["answer"] for one in map(json.loads, journal.read_text().splitlines())}
    yes = np.array(rows["dcdd/one"]) > 0
    other = np.array(rows["dcdd/two"])[:, 0] > 0
    expected = 100 * ((yes[:, 0] + (yes[:, 0] & yes[:, 1])).mean() / 2 + other.mean()) / 2
    assert result["decoders"]["dcdd"]["metrics"]["score"]["value"] == pytest.approx(expected)
    assert set(result["decoders"]["dcdd"]["broad"]) == {"entity", "attribute"}

    journal.write_text(journal.read_text()[:-10])  # killed while it wrote: only the last line is asked again
    asked = []
    monkeypatch.setattr(
        "detokenizers.pretrained.networks.vqa.YesNo.forward",
        lambda self, picture, questions: asked.append(questions) or 1 / 0,
    )
    with pytest.raises(ZeroDivisionError):
        score(out, "dpg", "--judge", judges["examiner"])
    assert asked == [["Is there a cat?"]]
    monkeypatch.undo()


def test_official_quirks_are_named_in_the_tag_and_list_what_is_skipped(tmp_path, judges, drawn):
    out = drawn("dpg")
    result = score(out, "dpg", "--judge", judges["examiner"], "--official-quirks")
    assert result["tag"] == "dpg-examiner-official-quirks"
    assert result["decoders"]["vq"]["skipped"] == ["one"]


def test_mjhq_is_drawn_by_category_and_measured_overall_and_in_each(tmp_path, drawn):
    out = drawn("mjhq")
    assert sorted(path for path in files(out / "vq")) == [
        "animals/aa.png",
        "animals/bb.png",
        "food/cc.png",
        "food/dd.png",
    ]
    for id, one in META.items():
        path = tmp_path / "real" / one["category"] / f"{id}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(len(id)).integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(path)
    result = score(out, "mjhq", "--reference", tmp_path / "real")
    metrics = result["decoders"]["dcdd"]["metrics"]
    assert {name: one["n"] for name, one in metrics.items()} == {"overall": 4, "animals": 2, "food": 2}
    assert metrics["overall"]["label"] == "FD-world (N = 4)"
    assert "animals (N = 2)" in (out / "results.md").read_text()


def test_mjhq_by_a_published_protocol_reads_originals_of_any_size_and_is_no_fid_at_another_n(
    drawn, tmp_path, monkeypatch
):
    class Inception(torch.nn.Module):
        identity = "inception@sha256:0"

        def pooled(self, images):
            return images.mean((2, 3))

    monkeypatch.setattr("detokenizers.evaluation.networks.published", lambda: {"inception": Inception})
    out = drawn("mjhq")
    for side, (id, one) in enumerate(META.items(), 20):
        path = tmp_path / "real" / one["category"] / f"{id}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (side, 30), (10 * side, 0, side)).save(path)
    result = score(out, "mjhq", "--reference", tmp_path / "real", "--protocol", "mjhq-cleanfid")
    assert result["tag"] == "mjhq-cleanfid"
    assert result["decoders"]["vq"]["metrics"]["overall"]["label"] == "FD-inception (N=4)"
    report = (out / "results.md").read_text()
    assert "not comparable with published ones" in report
    assert "yes:" not in report


def test_the_world_is_drawn_in_equal_numbers_of_unseen_captions(tmp_path, drawn):
    out = drawn("world")
    rows = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == [f"{tag}/{place:04d}" for tag in KINDS for place in (0, 1)]
    assert [parse(row["prompt"]).kind for row in rows[::2]] == list(KINDS.values())
    assert len({row["prompt"] for row in rows}) == 12
    assert (out / "dcdd" / "counting" / "0001.png").is_file()


def test_tasks_with_few_captions_repeat_them_and_others_do_not():
    found = new_captions(20)
    assert {tag: len(captions) == 20 for tag, captions in found.items()} == {
        tag: tag != "single_object" for tag in KINDS
    }
    assert 5 <= len(found["single_object"]) == len(set(found["single_object"]))


def test_the_world_is_judged_by_task_beside_the_judges_own_ceiling(tmp_path, drawn):
    out = drawn("world")
    result = score(out, "world")
    rows = list(result["decoders"])
    assert rows[:2] == ["vq", "dcdd"]
    assert rows[2].startswith("rendered scenes")
    assert rows[3].startswith("scenes of other captions")
    for entry in result["decoders"].values():
        assert set(KINDS) <= set(entry["metrics"])
        assert entry["metrics"]["counting"]["n"] == 2
    assert list(result["differences"]) == ["dcdd - vq"]


def test_a_score_from_python_is_that_of_the_command_line(tmp_path, drawn):
    out = drawn("world")
    score(out, "world")
    report = benchmarks.score(out, bench="world", out=tmp_path / "python")
    assert report.save() is None
    for name in ("results.json", "results.md"):
        assert (tmp_path / "python" / name).read_bytes() == (out / name).read_bytes()
    with pytest.raises(ValueError, match="name the benchmark with --bench: geneval, dpg, mjhq, world"):
        benchmarks.score(out)
    with pytest.raises(ValueError, match="--official-quirks means something for --bench dpg only"):
        benchmarks.score(out, bench="world", official_quirks=True)


@pytest.fixture
def refusal(capsys):
    """Run a command that must be refused; returns its one line."""

    def run(*arguments: object) -> str:
        code = main([str(argument) for argument in arguments])
        error = capsys.readouterr().err
        assert code == 2, error
        assert error.startswith("detok: ")
        assert len(error.splitlines()) == 1
        return error

    return run


@pytest.mark.parametrize(
    ("arguments", "clue"),
    [
        (["--bench", "geneval"], "needs --bench-file"),
        (["--bench", "geneval", "--bench-file", "{geneval}"], "not all of GenEval's 553"),
        (["--bench", "geneval", "--bench-file", "{mjhq}"], "a line of GenEval"),
        (["--bench", "dpg", "--bench-file", "{geneval}"], "lacks the columns"),
        (["--bench", "dpg", "--bench-file", "{dpg}"], "not DPG-Bench's 1,065"),
        (["--bench", "mjhq", "--bench-file", "{dpg}"], "is not a prompts file"),
        (["--bench", "mjhq", "--bench-file", "{mjhq}"], "ten categories of 3,000"),
        (["--bench", "mjhq", "--bench-file", "nowhere"], "nowhere"),
        (["--bench", "world"], "ask for 6"),
        (["--bench", "world", "--count", "20"], "ask for 24"),
        (["--bench", "world", "--count", "6", "--bench-file", "{dpg}"], "leave --bench-file out"),
        (["--bench", "geneval", "--bench-file", "{geneval}", "--per-prompt", "2"], "give no others"),
        (["a dog", "--bench", "world", "--count", "6"], "give no others"),
        (["a dog", "--count", "6"], "name it with --bench"),
        (["--bench", "genevil"], "geneval"),
    ],
)
def test_wrong_benchmarks_are_refused_before_anything_is_drawn(tmp_path, refusal, arguments, clue):
    paths = {name: str(write(name, tmp_path)) for name in FILES}
    filled = [one.format(**paths) for one in arguments]
    assert clue in refusal("generate", *filled, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("bench", "more", "clue"),
    [
        ("geneval", [], "--judge facebook/mask2former-swin-small-coco-instance"),
        ("geneval", ["--judge", "./nowhere", "--colour-judge", "x"], "nowhere"),
        ("geneval", ["--official-quirks"], "--bench dpg only"),
        ("geneval", ["--metrics", "psnr"], "--metrics means nothing to benchmarks"),
        ("mjhq", ["--reference", ".", "--allow", "missing"], "any-n only"),
        ("dpg", [], "--judge Qwen/Qwen2.5-VL-7B-Instruct"),
        ("dpg", ["--judge", "{examiner}", "--resolution", "8"], "16 px pictures, not of --resolution 8"),
        ("mjhq", [], "--reference"),
        ("mjhq", ["--judge", "x"], "--judge means something"),
        ("world", ["--bench-file", "x"], "--bench-file means something"),
        ("world", ["--world", "8"], "--world means nothing to benchmarks"),
    ],
)
def test_scoring_without_what_it_needs_says_what_that_is(tmp_path, judges, refusal, bench, more, clue, drawn):
    out = drawn(bench)
    file = ["--bench-file", tmp_path / FILES[bench], "--partial"] if bench in FILES else []
    filled = [one.format(examiner=judges["examiner"]) for one in more]
    assert clue in refusal("evaluate", out, "--bench", bench, *file, *filled)
    assert not (out / "results.json").exists()


def test_settings_of_benchmarks_are_refused_without_one(tmp_path, refusal):
    assert "--judge means something for --bench" in refusal("evaluate", tmp_path, "--world", "4", "--judge", "x")


def test_folders_that_are_not_whole_are_refused(tmp_path, refusal, drawn):
    out = drawn("geneval")
    ask = ["evaluate", out / "dcdd", "--bench", "geneval", "--partial"]
    (out / "dcdd/00001/samples/0003.png").unlink()
    assert "samples holds 3 pictures, not 4" in refusal(*ask)
    shutil.rmtree(out / "dcdd" / "00001")
    assert "hold different prompts, e.g. 00001" in refusal(*ask, "--bench-file", tmp_path / FILES["geneval"])
    assert "not all of GenEval's 553" in refusal(*ask[:-1])
    other = json.dumps({**ASKS[0], "prompt": "a cat"})
    (out / "dcdd/00000/metadata.jsonl").write_text(other)
    (tmp_path / "one.jsonl").write_text(json.dumps(ASKS[0]))
    assert "drawn from another prompt than line 1" in refusal(*ask, "--bench-file", tmp_path / "one.jsonl")
    (out / "dcdd/00000/metadata.jsonl").unlink()
    assert "metadata.jsonl is missing" in refusal(*ask)
    assert "not in GenEval's layout" in refusal("evaluate", tmp_path / "out" / "tokens" / "00000", *ask[2:])


def test_grids_that_are_missing_or_strange_or_crooked_are_refused(tmp_path, judges, refusal, drawn):
    out = drawn("dpg")
    ask = ["evaluate", out, "--bench", "dpg", "--bench-file", tmp_path / FILES["dpg"], "--partial", "--judge"]
    grid = out / "vq/grids/one.png"
    kept = grid.read_bytes()
    Image.new("RGB", (32, 16)).save(grid)
    assert "square 2x2 grid" in refusal(*ask, judges["examiner"])
    grid.unlink()
    assert "lacks 1 of 2 grids" in refusal(*ask, judges["examiner"])
    grid.write_bytes(kept)
    shutil.copy(grid, grid.with_stem("three"))
    assert "no item of --bench-file, e.g. three.png" in refusal(*ask, judges["examiner"])


def test_pictures_of_the_world_must_all_be_there_and_its_own(tmp_path, refusal, drawn):
    out = drawn("world")
    (out / "dcdd/position/0000.png").unlink()
    assert "lacks 1 of 12 pictures, e.g. position/0000" in refusal("evaluate", out, "--bench", "world")
    main(["generate", "a dog on grass", "--steps", "1", "--out", str(tmp_path / "plain")])
    assert "not made by detok generate --bench world" in refusal("evaluate", tmp_path / "plain", "--bench", "world")
