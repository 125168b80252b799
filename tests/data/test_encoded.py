"""Images through frozen encoders, once: kept in shards, read row by row, gone on with after a kill."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time

import pytest
import torch
from PIL import Image

from detokenizers import peers
from detokenizers.data import encoded as module
from detokenizers.data.encoded import encoded
from detokenizers.data.sources import Folder


class Numbers:
    """A source whose image k is full of k."""

    def __init__(self, count: int) -> None:
        self.count, self.asked = count, []

    def __len__(self):
        return self.count

    def images(self, rows):
        self.asked += list(rows)
        return torch.stack([torch.full((3, 2, 2), float(row)) for row in rows])

    def captions(self, rows):
        return [str(row) for row in rows]

    def fingerprint(self):
        return "numbers"


def encode(images, rows):
    return {"mean": images.mean((1, 2, 3)), "row": torch.tensor(list(rows)), "half": images[:, 0].half()}


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    monkeypatch.setattr(module, "SHARD", 8)


def test_every_row_is_encoded_once_and_found_in_any_order(tmp_path):
    source = Numbers(21)
    arrays = encoded(source, encode, tmp_path, batch=3)
    assert sorted(source.asked) == list(range(21))
    assert len(arrays) == 21
    found = arrays[[20, 0, 8, 7, 0]]
    assert found["row"].tolist() == found["mean"].tolist() == [20, 0, 8, 7, 0]
    assert found["half"].shape == (5, 2, 2)
    assert found["half"].dtype == torch.float16
    assert arrays[range(6, 10)]["row"].tolist() == [6, 7, 8, 9]
    assert [path.name for path in sorted(tmp_path.iterdir())] == [f"0000{number}.safetensors" for number in range(3)]


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "photos").mkdir()
    for number in range(19):
        picture = Image.effect_noise((30 + number, 41), 90).convert("RGB")
        picture.save(tmp_path / "photos" / f"{number:02d}.jpg")
    return tmp_path / "photos"


def test_workers_read_pictures_ahead_and_leave_the_same_bytes(tmp_path, photos):
    source, readers = Folder(str(photos), 32), []

    def mean(images, rows):
        readers.append(len(multiprocessing.active_children()))
        return {"mean": images.mean((2, 3)), "row": torch.tensor(list(rows))}

    for workers in (0, 2):
        arrays = encoded(source, mean, tmp_path / str(workers), batch=3, workers=workers)
        assert arrays[range(19)]["row"].tolist() == list(range(19))
    alone, helped = (sorted((tmp_path / name).iterdir()) for name in ("0", "2"))
    assert [path.read_bytes() for path in alone] == [path.read_bytes() for path in helped]
    assert (readers[0], readers[-1]) == (0, 2)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_picture_is_named_whoever_reads_it(tmp_path, photos, workers):
    (photos / "11.jpg").write_bytes((photos / "11.jpg").read_bytes()[:200])
    with pytest.raises(ValueError, match=r"^.+11\.jpg (cannot be read|is not a picture).+$"):
        encoded(Folder(str(photos), 32), encode, tmp_path / "out", batch=3, workers=workers)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["00000.safetensors"]
    assert not multiprocessing.active_children()


def test_a_cut_off_encoding_goes_on_where_it_was(tmp_path):
    source = Numbers(21)

    def cut(images, rows):
        if 13 in rows:
            raise KeyboardInterrupt
        return encode(images, rows)

    with pytest.raises(KeyboardInterrupt):
        encoded(source, cut, tmp_path, batch=3)
    assert [path.name for path in tmp_path.iterdir()] == ["00000.safetensors"]
    source.asked.clear()
    assert encoded(source, encode, tmp_path, batch=3)[[2, 13]]["row"].tolist() == [2, 13]
    assert min(source.asked) == 8


def test_what_is_encoded_is_not_encoded_again(tmp_path):
    encoded(Numbers(10), encode, tmp_path)
    source = Numbers(10)
    encoded(source, encode, tmp_path)
    assert source.asked == []


def test_each_of_several_processes_encodes_its_part(tmp_path, monkeypatch):
    """Both parts one after the other: the second process finds what it would wait for."""
    sources = [Numbers(40), Numbers(40)]
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    naps = []

    def other_process(seconds):
        naps.append(seconds)
        monkeypatch.setenv("RANK", "1")
        encoded(sources[1], encode, tmp_path)

    monkeypatch.setattr("detokenizers.peers.time.sleep", other_process)
    arrays = encoded(sources[0], encode, tmp_path)
    assert len(naps) == 1
    assert sources[0].asked == [row for row in range(40) if row // 8 % 2 == 0]
    assert sources[1].asked == [row for row in range(40) if row // 8 % 2 == 1]
    assert arrays[range(40)]["row"].tolist() == list(range(40))


def test_a_process_that_dies_while_it_encodes_ends_the_others_and_nothing_is_lost_or_done_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(peers, "BEAT", 0.02)
    monkeypatch.setenv("WORLD_SIZE", "2")
    child = os.fork()
    if child == 0:
        monkeypatch.setenv("RANK", "1")

        def dies(images, rows):
            if 26 in rows:
                time.sleep(0.5)
                os.kill(os.getpid(), signal.SIGKILL)
            return encode(images, rows)

        encoded(Numbers(40), dies, tmp_path)
        os._exit(0)
    monkeypatch.setenv("RANK", "0")

    def slow(images, rows):
        if 32 in rows:  # the last of its own
            os.waitpid(child, 0)
            monkeypatch.setattr(peers, "SILENCE", 0.5)
        return encode(images, rows)

    with pytest.raises(ValueError, match=r"^process 1 of 2 has died: no sign of it"):
        encoded(Numbers(40), slow, tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == [
        f"0000{number}.safetensors" for number in (0, 1, 2, 4)
    ]
    monkeypatch.setenv("WORLD_SIZE", "1")
    source = Numbers(40)
    assert encoded(source, encode, tmp_path)[range(40)]["row"].tolist() == list(range(40))
    assert source.asked == list(range(24, 32))


@pytest.mark.parametrize("row", [-1, 10])
def test_a_row_that_is_not_there_is_refused(tmp_path, row):
    with pytest.raises(ValueError, match=f"there is no row {row}; 10 rows were encoded"):
        encoded(Numbers(10), encode, tmp_path)[[0, row]]


def test_a_damaged_shard_is_one_clear_line(tmp_path):
    encoded(Numbers(10), encode, tmp_path)
    (tmp_path / "00001.safetensors").write_bytes(b"damaged")
    arrays = encoded(Numbers(10), encode, tmp_path)
    assert arrays[[3]]["row"].tolist() == [3]
    with pytest.raises(ValueError, match=r"00001.safetensors is damaged .+ delete it and it is encoded again"):
        arrays[[9]]


def test_an_encoder_that_gives_nan_is_stopped_before_anything_is_kept(tmp_path):
    with pytest.raises(ValueError, match="encoding rows 0 to 7 gave NaN or infinity in 'mean'"):
        encoded(Numbers(10), lambda images, rows: {"mean": images.mean((1, 2, 3)) / 0}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_source_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there are no images to encode"):
        encoded(Numbers(0), encode, tmp_path)
