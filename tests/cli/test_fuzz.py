"""Every verb meets some hundred damaged or nonsensical inputs, and does its work or says one line, never more.

Small files that are right are cut off, have bits flipped, or get values of other types and sizes. Whatever comes of it,
a command ends with 0 or 2; with 2 it says exactly one line and has written nothing but what it finished before.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from detokenizers.checkpoint import load_tensors, notes_in, save_tensors
from detokenizers.cli import main
from detokenizers.data.canonical import header
from detokenizers.data.images import notes_of, upright
from detokenizers.data.prompts import read_prompts
from detokenizers.dcdd.calibrate import CalibrationReport
from detokenizers.dcdd.model import DCDDConfig
from detokenizers.drawing.generation import Generation
from detokenizers.evaluation.benchmarks import dpg_questions as dpg
from detokenizers.evaluation.benchmarks import geneval_prompts as geneval
from detokenizers.evaluation.benchmarks import mjhq
from detokenizers.evaluation.sides import rows_in
from detokenizers.papers import RECIPES

pytestmark = pytest.mark.usefixtures("embedded")

JUNK = st.one_of(
    st.none(), st.booleans(), st.sampled_from([0, -1, 2**63, 10**400, 1e308, float("nan"), float("inf")]),
    st.sampled_from(["", " ", "\x00", "..", "a/b", "\u2028"]),
    st.text(max_size=8), st.binary(max_size=4).map(lambda raw: raw.decode("latin-1")),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)  # fmt: skip
"""Values of every type, among them numbers that fit nowhere."""


def fuzzed(examples: int) -> Callable[..., Any]:
    """So many examples, the same at every run; what fails is shown as it is, since shrinking takes long."""
    return settings(
        max_examples=examples, derandomize=True, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """A file cut off, with a few bytes changed, or with some of it twice."""
    kind, place = draw(st.sampled_from(["cut", "flip", "flip", "again", "other"])), draw(st.integers(0, len(whole)))
    match kind:
        case "cut":
            return whole[:place]
        case "again":
            return whole[:place] + whole[max(0, place - 20) :]
        case "other":
            return draw(st.binary(max_size=40))
    raw = bytearray(whole)
    for spot in draw(st.lists(st.integers(0, min(len(raw) - 1, 400)), min_size=1, max_size=4)):
        raw[spot] ^= 1 << draw(st.integers(0, 7))
    return bytes(raw)


@st.composite
def altered(draw: st.DrawFn, whole: Any) -> Any:
    """Nested values with one of them exchanged for junk, missing, or joined by one that nobody asked for."""
    paths = list(places(whole))
    path = draw(st.sampled_from(paths))
    copy = json.loads(json.dumps(whole))
    place = copy
    for key in path[:-1]:
        place = place[key]
    match draw(st.sampled_from(["junk", "junk", "gone", "more"])):
        case "gone":
            del place[path[-1]]
        case "more" if isinstance(place, dict):
            place[draw(st.text(max_size=4))] = draw(JUNK)
        case _:
            place[path[-1]] = draw(JUNK)
    return copy


def places(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield (*before, key)
        yield from places(inner, (*before, key))


@pytest.fixture
def ends_well(tmp_path: Path) -> Callable[..., int]:
    """Run a command in a fresh folder of outputs; check how it ends, and return its exit code."""

    def run(*arguments: object) -> int:
        out = tmp_path / "out"
        shutil.rmtree(out, ignore_errors=True)
        said, printed = io.StringIO(), io.StringIO()
        with redirect_stderr(said), redirect_stdout(printed):
            code = main([str(argument) for argument in arguments])
        error = said.getvalue()
        assert code in (0, 2), error
        if code == 2:
            assert error.startswith("detok: "), error
            assert error.endswith("\n"), error
            assert len(error.splitlines()) == 1, error
            assert printed.getvalue() == ""
        left = [path for path in out.rglob("*") if path.is_file()]
        assert not [path for path in left if path.name.startswith(".")], left
        assert code == 0 or not [path for path in left if path.suffix in (".json", ".md", ".jsonl")], left
        return code

    return run


def written(path: Path, raw: bytes) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(raw)
    return path


def jsonl(rows: list[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def picture(kind: str) -> bytes:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112], exif[0x011A] = 6, 72.5
    pixels = np.random.default_rng(0).integers(0, 255, (18, 20, 3), np.uint8)
    extra = {} if kind in ("BMP", "GIF") else {"exif": exif}
    Image.fromarray(pixels).save(file, kind, **extra)
    return file.getvalue()


KINDS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP")
JSONL = [{"prompt": "a dog on grass", "id": "x", "seed": 3}, {"prompt": "a red apple", "category": "food"}]
MJHQ = {"0a": {"category": "animals", "prompt": "a dog"}}
PROMPT_FILES = {
    ".txt": b"a dog on grass\na red apple\n",
    ".jsonl": jsonl(
        [{"prompt": "a dog on grass", "id": "x", "seed": 3}, {"prompt": "a red apple", "category": "food"}]
    ),
    ".json": json.dumps(MJHQ).encode(),
}
GENEVAL = {
    "tag": "position",
    "include": [
        {"class": "dog", "count": 1},
        {"class": "cat", "count": 1, "color": "red", "position": ["left of", 0]},
    ],
    "exclude": [{"class": "dog", "count": 3}],
    "prompt": "a photo of a red cat left of a dog",
}
DPG = "\r\n".join(
    [
        ",".join(dpg.COLUMNS),
        "0,a dog,,1,0,entity,whole,entity - whole (dog),Is there a dog?",
        "0,a dog,,2,1,a,b,c,Is it red?",
    ]
)
BENCHMARKS = {
    "geneval": jsonl([GENEVAL]),
    "dpg": DPG.encode(),
    "mjhq": json.dumps(MJHQ).encode(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_pictures(ends_well, tmp_path, kind):
    whole = picture(kind)
    codes: list[int] = []

    @fuzzed(8)
    @given(damaged(whole))
    def reconstruct(raw: bytes) -> None:
        path = written(tmp_path / f"a.{kind.lower()}", raw)
        codes.append(ends_well("reconstruct", path, "--decoder", "vq", "--out", tmp_path / "out"))

    @fuzzed(4)
    @given(damaged(whole))
    def measure(raw: bytes) -> None:
        folder = written(tmp_path / "drawn" / f"a.{kind.lower()}", raw).parent
        ask = ("--world", "2", "--metrics", "fd-world", "--resamples", "0", "--out", tmp_path / "out")
        codes.append(ends_well("evaluate", folder, *ask))

    reconstruct()
    measure()
    assert 2 in codes


@pytest.mark.parametrize("suffix", PROMPT_FILES)
def test_damaged_prompt_files(ends_well, tmp_path, monkeypatch, suffix):
    monkeypatch.setattr("detokenizers.drawing.generation.Generation.draw", refused)

    @fuzzed(15)
    @given(damaged(PROMPT_FILES[suffix]))
    def generate(raw: bytes) -> None:
        path = written(tmp_path / f"p{suffix}", raw)
        assert ends_well("generate", "--prompts", path, "--decoder", "vq", "--out", tmp_path / "out") == 2

    generate()


def refused(self: Generation, unit: int, progress: object) -> None:
    """Where drawing would begin: the inputs were good, and the seconds that a drawing takes are saved."""
    for item in self.items:
        json.dumps(item).encode()
        assert 0 <= item.seed < 2**63
    raise ValueError("there would be something to draw")


def test_prompts_of_wrong_types(ends_well, tmp_path, monkeypatch):
    monkeypatch.setattr("detokenizers.drawing.generation.Generation.draw", refused)

    @fuzzed(25)
    @given(altered(JSONL))
    def generate(rows: list[Any]) -> None:
        path = written(tmp_path / "p.jsonl", jsonl(rows))
        assert ends_well("generate", "--prompts", path, "--decoder", "vq", "--out", tmp_path / "out") == 2

    generate()


def annotated(value: Any) -> bytes:
    """A safetensors file with these notes."""
    notes = value if isinstance(value, str) else json.dumps(value)
    return safetensors.torch.save({"x": torch.zeros(1)}, metadata={"notes": notes})


def pictured(value: Any) -> bytes:
    """A PNG with these notes."""
    chunks = PngInfo()
    chunks.add_itxt("prompt", json.dumps(value))
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "PNG", pnginfo=chunks)
    return file.getvalue()


ROW = {"id": "a", "prompt": "a dog on grass", "decoders": ["vq"]}
READERS: dict[str, tuple[Callable[[Path], object], st.SearchStrategy[bytes]]] = {
    "geneval": (lambda path: geneval.read_asks(path, partial=True), altered(GENEVAL).map(lambda one: jsonl([one]))),
    "geneval, bytes": (lambda path: geneval.read_asks(path, partial=True), damaged(BENCHMARKS["geneval"])),
    "dpg, bytes": (lambda path: dpg.read_items(path, partial=True), damaged(BENCHMARKS["dpg"])),
    "dpg, quirks": (lambda path: dpg.read_items(path, partial=True, official_quirks=True), damaged(BENCHMARKS["dpg"])),
    "mjhq": (lambda path: mjhq.read_mjhq(path, partial=True), altered(MJHQ).map(lambda one: json.dumps(one).encode())),
    "mjhq, bytes": (lambda path: mjhq.read_mjhq(path, partial=True), damaged(BENCHMARKS["mjhq"])),
    "p.txt": (read_prompts, damaged(PROMPT_FILES[".txt"])),
    "p.jsonl": (read_prompts, altered(JSONL).map(jsonl) | damaged(PROMPT_FILES[".jsonl"])),
    "p.json": (read_prompts, altered(MJHQ).map(lambda one: json.dumps(one).encode()) | damaged(PROMPT_FILES[".json"])),
    "manifest": (rows_in, altered(ROW).map(lambda row: jsonl([row])) | damaged(jsonl([ROW]))),
    "report": (CalibrationReport.load, damaged(b'{"calibration": {"kappa": 20.0}, "sharpness": 20.0}')),
    "config": (DCDDConfig.from_yaml, damaged(b"calibration:\n  kappa: 20.0\n  vlm_side: {name: affine}\n")),
    "tensors": (load_tensors, damaged(annotated({"vlm": "mini"}))),
    "notes": (notes_in, (JUNK | st.text(max_size=5)).map(annotated) | damaged(annotated({"vlm": "mini"}))),
    "picture notes": (notes_of, JUNK.map(pictured) | damaged(pictured("a dog"))),
    **{kind: (upright, damaged(picture(kind))) for kind in KINDS},
    **{f"{kind}, header": (header, damaged(picture(kind))) for kind in KINDS},
}
"""Everything that reads what others may have written, and what it is given to read."""


@pytest.mark.parametrize("name", READERS)
def test_a_reader_reads_or_says_one_line(tmp_path, name):
    read, files = READERS[name]
    path = tmp_path / name

    @fuzzed(120)
    @given(files)
    def reads(raw: bytes) -> None:
        path.write_bytes(raw)
        said = path.name
        try:
            read(path)
        except ValueError as error:
            said = str(error)
        assert path.name in said

    reads()


@fuzzed(40)
@given(text=st.lists(st.text(min_size=1, max_size=30).filter(lambda text: text[0] != "-"), max_size=3))
def test_prompts_of_any_characters(tmp_path_factory, text):
    out = tmp_path_factory.mktemp("any") / "out"
    said = io.StringIO()
    with redirect_stderr(said):
        assert main(["generate", *text, "--decoder", "vq", "--out", str(out)]) == 2
    assert len(said.getvalue().splitlines()) == 1
    assert not out.exists()


@pytest.mark.parametrize("bench", BENCHMARKS)
def test_damaged_benchmark_files(ends_well, tmp_path, monkeypatch, bench):
    monkeypatch.setattr("detokenizers.drawing.generation.Generation.draw", refused)
    folder = tmp_path / "drawn"
    folder.mkdir()

    @fuzzed(12)
    @given(damaged(BENCHMARKS[bench]))
    def generate(raw: bytes) -> None:
        ask = ("--bench", bench, "--partial", "--bench-file", written(tmp_path / "bench", raw))
        assert ends_well("generate", *ask, "--decoder", "vq", "--out", tmp_path / "out") == 2

    @fuzzed(8)
    @given(damaged(BENCHMARKS[bench]))
    def evaluate(raw: bytes) -> None:
        ask = ("--bench", bench, "--partial", "--bench-file", written(tmp_path / "bench", raw))
        more = ("--reference", folder) if bench == "mjhq" else ()
        assert ends_well("evaluate", folder, *ask, *more, "--out", tmp_path / "out") == 2

    generate()
    evaluate()


@pytest.mark.parametrize(("bench", "whole"), [("geneval", GENEVAL), ("mjhq", MJHQ)])
def test_benchmark_lines_of_wrong_types(ends_well, tmp_path, monkeypatch, bench, whole):
    monkeypatch.setattr("detokenizers.drawing.generation.Generation.draw", refused)

    @fuzzed(20)
    @given(altered(whole))
    def generate(value: Any) -> None:
        ask = ("--bench", bench, "--partial", "--bench-file", written(tmp_path / "bench", jsonl([value])))
        assert ends_well("generate", *ask, "--decoder", "vq", "--out", tmp_path / "out") == 2

    generate()


def test_damaged_manifests_and_metadata(ends_well, tmp_path):
    manifest = jsonl([ROW])
    folder = tmp_path / "drawn"
    (folder / "vq").mkdir(parents=True)
    Image.new("RGB", (16, 16)).save(folder / "vq" / "a.png")
    ask = ("--world", "2", "--metrics", "fd-world", "--resamples", "0", "--out", tmp_path / "out")

    @fuzzed(20)
    @given(damaged(manifest) | altered(ROW).map(lambda row: jsonl([row])))
    def evaluate(raw: bytes) -> None:
        written(folder / "manifest.jsonl", raw)
        ends_well("evaluate", folder, *ask)

    evaluate()


@pytest.mark.parametrize("recipe", ["mini.world_net", "dcdd.mini"])
def test_run_yamls_of_wrong_types(ends_well, tmp_path, monkeypatch, recipe):
    monkeypatch.setattr("detokenizers.training.run_folder.require_same_run", refused_run)
    whole = yaml.safe_load(RECIPES[recipe]().to_yaml())

    @fuzzed(25)
    @given(altered(whole).map(lambda value: yaml.safe_dump(value).encode()) | damaged(yaml.safe_dump(whole).encode()))
    def train(raw: bytes) -> None:
        path = written(tmp_path / "run.yaml", raw)
        assert ends_well("train", path, "--out", tmp_path / "out") == 2

    train()


def refused_run(run: object, folder: Path) -> None:
    raise ValueError("there would be something to train")


@pytest.mark.parametrize("text", ["!!bool maybe", "!!int ''", "!!timestamp x", "2001-99-99", "a: &a [*a]", "[" * 5000])
def test_yaml_that_its_own_reader_trips_over(ends_well, tmp_path, text):
    path = written(tmp_path / "run.yaml", f"recipe: mini.vlm\nx: {text}\n".encode())
    assert ends_well("train", path, "--out", tmp_path / "out") == 2


def test_damaged_weights(ends_well, tmp_path, embedded):
    folder = tmp_path / "decoder"
    shutil.copytree(embedded / "mini" / "dcdd", folder)
    kept = {path: path.read_bytes() for path in folder.rglob("*") if path.suffix in (".safetensors", ".yaml")}

    @fuzzed(40)
    @given(st.data())
    def info_and_generate(data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(sorted(kept)))
        written(path, data.draw(damaged(kept[path])))
        code = ends_well("info", folder)
        if code == 2:
            ends_well("generate", "a dog", "--steps", "1", "--decoder", folder, "--out", tmp_path / "out")
        written(path, kept[path])

    info_and_generate()


def test_damaged_statistics(ends_well, tmp_path):
    for name, colour in (("a", "red"), ("b", "blue")):
        Image.new("RGB", (16, 16), colour).save(written(tmp_path / "drawn" / f"{name}.png", b""))
    file = io.BytesIO()
    np.savez(file, mu=np.zeros(4), sigma=np.eye(4))
    ask = ("evaluate", tmp_path / "drawn", "--metrics", "fd-world", "--resamples", "0", "--out", tmp_path / "out")
    kept = tmp_path / "kept.safetensors"
    assert main([str(one) for one in ("evaluate", "--world", "3", "--save-reference", kept)]) == 0
    assert ends_well(*ask, "--reference", kept) == 0

    @fuzzed(20)
    @given(damaged(kept.read_bytes()))
    def safetensors(raw: bytes) -> None:
        ends_well(*ask, "--reference", written(tmp_path / "s.safetensors", raw))

    @fuzzed(20)
    @given(damaged(file.getvalue()))
    def npz(raw: bytes) -> None:
        path = written(tmp_path / "s.npz", raw)
        assert ends_well(*ask, "--protocol", "rfid-in50k", "--allow", "any-n", "--reference", path) == 2

    safetensors()
    npz()


def test_tensors_of_other_kinds(ends_well, tmp_path):
    for number, tensors in enumerate(
        (
            {},
            {"mean": torch.zeros(3)},
            {"mean": torch.zeros(()), "scatter": torch.zeros(2, 2, 2)},
            {"x": torch.zeros(0)},
        )
    ):
        path = tmp_path / f"{number}.safetensors"
        save_tensors(path, tensors)
        Image.new("RGB", (16, 16)).save(written(tmp_path / "drawn" / "a.png", b""))
        ask = ("--metrics", "fd-world", "--resamples", "0", "--reference", path, "--out", tmp_path / "out")
        assert ends_well("evaluate", tmp_path / "drawn", *ask) == 2


WORDS = """
generate reconstruct calibrate train recipes evaluate info mini.vlm vq mini/dcdd nowhere -1 nan 1e999 --decoder --steps
--seed --vlm --prompts --world --bench --metrics --allow --epsilons --kappa-range --batch --train.lr --reference --shard
--compare --bench-file --judge --protocol --version --help
""".split()  # noqa: SIM905
VERBS = ["generate", "reconstruct", "calibrate", "train", "evaluate", "info"]


def test_command_lines_of_any_words(ends_well, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("detokenizers.drawing.generation.Generation.draw", refused)
    monkeypatch.setattr("detokenizers.training.run_folder.require_same_run", refused_run)

    @fuzzed(80)
    @given(st.sampled_from(VERBS), st.lists(st.sampled_from(WORDS) | st.text(max_size=5), max_size=6))
    def any_words(verb: str, words: list[str]) -> None:
        ends_well(verb, *words, *(() if verb == "info" else ("--out", tmp_path / "out")))

    any_words()
