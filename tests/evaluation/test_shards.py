"""Shards: any number of them, in any order, by any number of processes, killed or not, give one answer."""

import json
import multiprocessing
import os
import signal
import time

import pytest
import torch

from detokenizers.evaluation.features import Gathered
from detokenizers.evaluation.frechet import frechet
from detokenizers.evaluation.moments import Moments
from detokenizers.evaluation.one_pass import TRUTH, Share, measure
from detokenizers.evaluation.prdc import density_coverage
from detokenizers.evaluation.shards import Shard, key_in, merge

from .sides import Memory, networks, numbered, originals, plan, scored, sides

ALONE = Share(0, 1)


def values(result):
    return {
        (kind, name, key): [metric[bound] for bound in ("value", "low", "high")]
        for kind in ("decoders", "differences")
        for name, entry in result[kind].items()
        for key, metric in entry["metrics"].items()
    }


def close(a, b, tolerance=1e-9):
    assert a.keys() == b.keys()
    for key, row in a.items():
        for x, y in zip(row, b[key]):
            assert (x is None) == (y is None), key
            assert x is None or abs(x - y) <= tolerance * max(1, abs(y)), (key, x, y)


def test_merged_shards_give_the_numbers_of_one_pass():
    some = sides(originals(96))
    close(values(scored(some, shard_size=32)), values(scored(some, shard_size=96)))


def test_moments_of_merged_shards_are_those_of_one_pass_to_nine_digits():
    rows = torch.randn(700, 24, generator=torch.Generator().manual_seed(0)) * 5 + 100
    other = torch.randn(700, 24, generator=torch.Generator().manual_seed(1)) * 5 + 100.5
    whole = Moments.of(rows, "net")
    merged = Gathered(Moments("net"))
    for part in rows.split(64):
        merged.add(part if len(part) % 2 else None, Moments.of(part, "net"))
    assert torch.allclose(merged.moments.mean, whole.mean, rtol=1e-12)
    assert torch.allclose(merged.moments.scatter, whole.scatter, rtol=1e-9, atol=1e-9)
    real = Moments.of(other, "net")
    assert frechet(merged.moments, real) == pytest.approx(frechet(whole, real), rel=1e-9)


def test_the_order_of_shards_does_not_matter():
    some = sides(originals(96))
    work, _ = plan(some, shard_size=32)
    shards = [work.shard(ids) for ids in work.chunks()]
    one, other = merge(shards, keep_rows=True), merge(shards[::-1], keep_rows=True)
    assert one.hash(TRUTH) == other.hash(TRUTH)
    assert dict(zip(one.ids, one.columns["noisy"]["psnr"])) == dict(zip(other.ids, other.columns["noisy"]["psnr"]))
    near = [frechet(e.side("noisy", "world").moments, e.side(TRUTH, "world").moments) for e in (one, other)]
    assert near[0] == pytest.approx(near[1], rel=1e-9)
    both = [density_coverage(e.side(TRUTH, "world").rows, e.side("noisy", "world").rows) for e in (one, other)]
    assert both[0].density.mean().item() == pytest.approx(both[1].density.mean().item(), rel=1e-9)


def test_an_id_that_two_shards_hold_is_refused():
    work, _ = plan(sides())
    shard = work.shard(work.ids)
    with pytest.raises(ValueError, match="'image-00' came twice"):
        merge([shard, shard], keep_rows=True)


def test_an_id_that_comes_twice_is_refused():
    with pytest.raises(ValueError, match="'a' came twice"):
        plan({"drawn": Memory({"a": originals(1)[0]})}, ("fd-world",), ids=["a", "b", "a"])


def test_a_shard_comes_back_from_disk_as_it_was(tmp_path):
    work, _ = plan(sides())
    shard = work.shard(work.ids)
    shard.save(tmp_path / "shard.safetensors")
    back = Shard.load(tmp_path / "shard.safetensors")
    assert (back.key, back.ids, back.digests) == (shard.key, shard.ids, shard.digests)
    assert back.rows["noisy", "world"].equal(shard.rows["noisy", "world"])
    assert back.columns["same"]["psnr"][0].isinf().all()
    assert key_in(tmp_path / "shard.safetensors") == shard.key


def test_without_rows_a_shard_holds_moments_only_whatever_its_size(tmp_path):
    sizes = []
    for number in (32, 64):
        work, _ = plan({TRUTH: Memory(numbered(originals(number)))}, ("fd-world",), keep_rows=False)
        shard = work.shard(work.ids)
        assert not shard.rows
        assert shard.moments[TRUTH, "world"].count == number
        shard.digests.clear()
        shard.ids = []
        shard.save(tmp_path / f"{number}.safetensors")
        sizes.append((tmp_path / f"{number}.safetensors").stat().st_size)
    assert sizes[0] == sizes[1]


def test_statistics_alone_cannot_answer_what_needs_every_picture():
    gathered = Gathered(Moments("world:0"))
    gathered.add(torch.rand(9, 3))
    with pytest.raises(ValueError, match="only their statistics are known"):
        _ = gathered.rows


def test_two_processes_with_a_share_each_make_what_one_makes(tmp_path):
    some = sides(originals(96))
    work, _ = plan(some, shard_size=32)
    whole = measure(work, tmp_path / "one", "drawn", ALONE)
    assert measure(work, tmp_path / "two", "drawn", Share(0, 2)) is None
    shared = measure(work, tmp_path / "two", "drawn", Share(1, 2))
    assert whole.ids == shared.ids
    assert whole.columns["noisy"]["psnr"].equal(shared.columns["noisy"]["psnr"])
    assert whole.side("noisy", "world").rows.equal(shared.side("noisy", "world").rows)
    assert whole.digests == shared.digests


class Stuck(Memory):
    """Never comes to its 40th picture, so that it can be killed in the middle."""

    def read(self, id):
        if id >= "image-40":
            time.sleep(600)
        return super().read(id)


def work_until_stuck(folder):
    torch.set_num_threads(1)
    work, _ = plan({TRUTH: Stuck(numbered(originals(96)))}, ("fd-world",), shard_size=16)
    measure(work, folder, "drawn", ALONE)


def test_a_killed_process_leaves_whole_shards_and_the_next_one_goes_on(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=work_until_stuck, args=(tmp_path,))
    process.start()
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("shards/drawn-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    left = sorted(tmp_path.glob("shards/drawn-*"))
    assert [path.stem for path in left] == ["drawn-00000", "drawn-00001"]
    assert all(key_in(path) for path in left)

    side = Memory(numbered(originals(96)))
    work, _ = plan({TRUTH: side}, ("fd-world",), shard_size=16)
    found = measure(work, tmp_path, "drawn", ALONE)
    assert side.reads == 96 - 32
    whole = measure(work, tmp_path / "whole", "drawn", ALONE)
    assert found.side(TRUTH, "world").rows.equal(whole.side(TRUTH, "world").rows)
    assert found.hash(TRUTH) == whole.hash(TRUTH)


@pytest.mark.parametrize("change", ["picture", "settings", "network", "metrics"])
def test_a_shard_made_otherwise_is_measured_again_and_reported(tmp_path, change, caplog):
    some = sides()
    work, _ = plan(some)
    measure(work, tmp_path, "drawn", ALONE)
    names, more = ("psnr", "fd-world") if change == "metrics" else ("psnr", "ssim", "pd-world", "fd-world"), {}
    if change == "picture":
        some["noisy"].pictures["image-07"] = originals()[8]
    if change == "settings":
        more["settings"] = {"protocol": "another"}
    if change == "network":
        more["nets"] = networks(seed=1)
    again, _ = plan(some, names, **more)
    measure(again, tmp_path, "drawn", ALONE)
    assert caplog.messages == [
        f"1 of 1 shards in {tmp_path / 'shards'} were made from other pictures, settings or networks; "
        "they are measured again"
    ]
    caplog.clear()
    measure(again, tmp_path, "drawn", ALONE)
    assert caplog.messages == []


def test_a_damaged_shard_is_measured_again(tmp_path):
    work, _ = plan(sides())
    first = measure(work, tmp_path, "drawn", ALONE)
    path = tmp_path / "shards" / "drawn-00000.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    assert measure(work, tmp_path, "drawn", ALONE).hash("noisy") == first.hash("noisy")


def test_a_picture_that_cannot_be_read_fails_unless_allowed_and_is_then_left_out_on_all_sides():
    some = sides()
    some["noisy"].broken = {"image-03"}
    with pytest.raises(ValueError, match=r"image-03\.png cannot be read"):
        scored(some)
    result = scored(some, allow_corrupt=True)
    assert result["n"] == 23
    assert "image-03" not in result["ids"]
    assert result["troubles"]["corrupt"]["number"] == 1
    assert result["troubles"]["corrupt"]["image-03"].startswith("noisy: image-03.png cannot be read")
    assert len(result["decoders"]["blurred"]["per_image"]["psnr"]) == 23
    json.dumps(result, allow_nan=False)


def test_pictures_of_several_sizes_are_measured_apart():
    pictures = numbered(originals(6)) | {f"large-{index}": picture for index, picture in enumerate(originals(6, 28))}
    work, _ = plan({TRUTH: Memory(pictures)}, ("fd-world",))
    shard = work.shard(work.ids)
    assert sorted(shard.ids) == sorted(pictures)
    assert shard.rows[TRUTH, "world"].shape == (12, 12)


@pytest.mark.parametrize(
    ("text", "environment", "share"),
    [
        (None, {}, ALONE),
        ("2/4", {}, Share(1, 4)),
        (None, {"RANK": "3", "WORLD_SIZE": "8"}, Share(3, 8)),
        ("1/1", {"RANK": "3", "WORLD_SIZE": "8"}, ALONE),
    ],
)
def test_a_share_is_named_or_comes_from_the_launcher(text, environment, share, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Share.parse(text) == share


@pytest.mark.parametrize("text", ["0/4", "5/4", "4", "a/b", "1/"])
def test_a_share_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="is not a share"):
        Share.parse(text)
