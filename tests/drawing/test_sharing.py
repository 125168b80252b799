"""Pictures that several processes draw together: the same bytes as one process draws, loose and in shards, and none lost
or drawn twice when one is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from detokenizers import drawing, peers
from detokenizers.cli import main
from detokenizers.data.images import find, notes_of
from detokenizers.data.sources import Folder
from detokenizers.drawing.gallery import Gallery
from detokenizers.evaluation.evaluator import evaluate
from detokenizers.tars import members

from .folders import PROMPTS

FIVE = [*PROMPTS, "a cat on sand", "three dogs on a wooden table"]
ASK = {"decoder": ("vq", "mini/dcdd"), "steps": 1, "batch": 2}


@pytest.fixture(autouse=True)
def _quick(monkeypatch, embedded):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(peers, "BEAT", 0.02)
    yield
    torch.set_num_threads(threads)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def together(monkeypatch, work, other=None) -> drawing.Drawn:
    """Run a drawing as two processes, of which this one is the first."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.environ["RANK"] = "1"
            (other or work)()
            code = 0
        finally:
            os._exit(code)
    monkeypatch.setenv("RANK", "0")
    try:
        return work()
    finally:
        os.waitpid(child, 0)
        monkeypatch.setenv("WORLD_SIZE", "1")


def test_two_processes_leave_the_bytes_of_one(tmp_path, monkeypatch):
    drawing.generate(FIVE, out=tmp_path / "one", compare=True, **ASK)
    drawn = together(monkeypatch, lambda: drawing.generate(FIVE, out=tmp_path / "two", compare=True, **ASK))
    one, two = files(tmp_path / "one"), files(tmp_path / "two")
    assert len(one) == 5 * 3 + 2
    assert one == two
    assert [row["prompt"] for row in drawn.rows] == FIVE


def test_a_process_that_is_not_the_first_draws_its_share_and_writes_no_summary(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert main(["generate", *FIVE[:4], "--decoder", "vq", "--batch", "2", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out == ""
    assert sorted(path.stem for path in (tmp_path / "vq").iterdir()) == [
        "a-cat-on-sand",
        "two-cats-on-a-blue-background",
    ]
    assert not {"manifest.jsonl", "sheet.png"} & set(files(tmp_path))


def test_shards_are_the_same_bytes_whoever_fills_them_and_hold_what_loose_files_are(tmp_path, monkeypatch):
    ask = ASK | {"decoder": ("vq",), "shards": 2}
    drawing.generate(FIVE, out=tmp_path / "loose", compare=True, **ASK | {"decoder": ("vq",)})
    drawing.generate(FIVE, out=tmp_path / "one", compare=True, **ask)
    together(monkeypatch, lambda: drawing.generate(FIVE, out=tmp_path / "two", compare=True, **ask))
    loose, one, two = (files(tmp_path / name) for name in ("loose", "one", "two"))
    assert one == two
    assert len(one) == 3 + 3 + 2
    assert {name: one[name] for name in ("manifest.jsonl", "sheet.png")} == {
        name: loose[name] for name in ("manifest.jsonl", "sheet.png")
    }
    for number, tar in enumerate(sorted((tmp_path / "one" / "vq").iterdir())):
        assert tar.name.startswith(f"0000{number}-")
        held = members(tar)
        for name, (offset, size) in held.items():
            bytes_ = tar.read_bytes()[offset : offset + size]
            expected = loose[f"vq/{name}"] if name.endswith(".png") else notes_of(tar / name.replace("txt", "png"))
            assert bytes_ == (expected if name.endswith(".png") else expected["prompt"].encode())
        assert len(held) == 2 * len(FIVE[2 * number : 2 * number + 2])


def test_a_killed_process_loses_nothing_and_nothing_is_drawn_twice(tmp_path, monkeypatch):
    ask = ASK | {"shards": 2}
    drawing.generate(FIVE, out=tmp_path / "whole", **ask)
    keep, kept = Gallery.keep, []

    def dies(*arguments):
        time.sleep(0.5)
        keep(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    def work():
        return drawing.generate(FIVE, out=tmp_path / "killed", **ask)

    def other():
        monkeypatch.setattr(Gallery, "keep", dies)
        work()

    monkeypatch.setattr(peers, "SILENCE", 1.0)
    with pytest.raises(ValueError, match="process 1 of 2 has died"):
        together(monkeypatch, work, other)
    there = files(tmp_path / "killed")
    assert "sheet.png" not in there

    def notes(gallery, label, id, *rest):
        kept.append((label, id))
        keep(gallery, label, id, *rest)

    monkeypatch.setattr(Gallery, "keep", notes)
    work()
    # The second process had the middle shard of three, and drew the first of its four pictures.
    assert len(kept) == len(set(kept)) == 3
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def test_a_process_killed_between_a_shard_and_its_loose_files_leaves_each_picture_once(tmp_path, monkeypatch):
    ask = ASK | {"decoder": ("vq",), "shards": 3}
    drawing.generate(FIVE[:3], out=tmp_path / "whole", **ask)

    class Killed(BaseException):
        pass

    def unlink(*_, **__):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", unlink)
        with pytest.raises(Killed):
            drawing.generate(FIVE[:3], out=tmp_path / "killed", **ask)
    assert len(list((tmp_path / "killed" / "tokens").iterdir())) == 3 + 1
    drawing.generate(FIVE[:3], out=tmp_path / "killed", **ask)
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def test_a_decoder_added_later_draws_from_tokens_in_shards(tmp_path, monkeypatch):
    ask = ASK | {"shards": 3}
    drawing.generate(FIVE, out=tmp_path / "both", **ask)
    drawing.generate(FIVE, out=tmp_path / "later", **ask | {"decoder": ("mini/dcdd",)})
    monkeypatch.setattr("detokenizers.pretrained.vlm.token_loop.TokenLoop.sample", None)
    drawing.generate(FIVE, out=tmp_path / "later", **ask)
    assert {name: data for name, data in files(tmp_path / "later").items() if name.endswith(".tar")} == {
        name: data for name, data in files(tmp_path / "both").items() if name.endswith(".tar")
    }


def test_reconstructions_of_two_processes_are_those_of_one_loose_and_in_shards(tmp_path, monkeypatch):
    ask = {"world": 5, "decoder": ("vq",), "decode_batch": 2}
    one = drawing.reconstruct(out=tmp_path / "one", **ask)
    two = together(monkeypatch, lambda: drawing.reconstruct(out=tmp_path / "two", **ask))
    packed = together(monkeypatch, lambda: drawing.reconstruct(out=tmp_path / "packed", shards=2, **ask))
    assert one.scores == two.scores == packed.scores
    assert files(tmp_path / "one") == files(tmp_path / "two")
    names = [path.name[:6] for path in sorted((tmp_path / "packed" / "vq").iterdir())]
    assert names == ["00000-", "00001-", "00002-"]


def test_shards_are_measured_and_trained_on_like_loose_pictures(tmp_path):
    ask = {"world": 5, "decoder": ("vq",)}
    for name, shards in (("loose", 0), ("packed", 2)):
        drawing.reconstruct(out=tmp_path / name, shards=shards, **ask)
    loose, packed = (
        evaluate(tmp_path / name, world=5, allow=["any-n"], out=tmp_path / f"{name}-scores")
        for name in ("loose", "packed")
    )
    assert loose
    assert packed
    assert loose.numbers["decoders"] == packed.numbers["decoders"]
    found = [find(tmp_path / name / "original") for name in ("loose", "packed")]
    assert [file.id for file in found[0]] == [file.id for file in found[1]]
    sources = [Folder(str(tmp_path / name / "original"), 16) for name in ("loose", "packed")]
    assert torch.equal(*(source.images([4, 0]) for source in sources))
    (tmp_path / "p.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in FIVE))
    drawing.generate(prompts=tmp_path / "p.jsonl", out=tmp_path / "g", decoder="vq", shards=5)
    assert Folder(str(tmp_path / "g" / "vq"), 16).captions([3, 1]) == [FIVE[3], FIVE[1]]


def test_a_benchmark_is_not_put_into_shards(tmp_path):
    with pytest.raises(ValueError, match="leave --shards out"):
        drawing.generate(bench="world", count=6, shards=2, out=tmp_path)


def test_the_slurm_template_runs_its_command_as_every_task(tmp_path, embedded):
    """Slurm's own programs are stand-ins: tasks run one after the other, the first last, since it waits for the others."""
    script = Path(__file__).parents[2] / "runs" / "slurm.sbatch"
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    programs = {
        "scontrol": "#!/usr/bin/env bash\necho here\n",
        "srun": '#!/usr/bin/env bash\nshift\nfor task in 1 0; do SLURM_PROCID=$task SLURM_LOCALID=$task "$@"; done\n',
        "tiny": f"#!{sys.executable}\nimport sys\nfrom pathlib import Path\nfrom detokenizers import checkpoint, cli\n"
        f"checkpoint.EMBEDDED = Path({str(embedded)!r})\nsys.exit(cli.main())\n",
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_JOB_NODELIST": "here", "SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_CPUS_PER_TASK": "1"}
    done = subprocess.run(
        ["bash", script, "generate", *FIVE[:2], "--decoder", "vq", "--batch", "1", "--out", str(tmp_path / "out")],
        env={**os.environ, **slurm, "DETOK": "tiny", "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 items by vq in ")
    assert done.stdout.count("\n") == 1
    assert len(files(tmp_path / "out")) == 2 * 2 + 2
