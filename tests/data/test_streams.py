"""Pictures that a library streams are read once, kept as they are, and from then on rows like any others."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import TypeAdapter

from detokenizers.data import streams
from detokenizers.data.sources import FolderImages, ImageSource
from detokenizers.data.streams import Row, kept
from detokenizers.tars import members


def picture(number: int, format: str = "png") -> bytes:
    data = io.BytesIO()
    Image.fromarray(np.full((16, 16, 3), number, np.uint8)).save(data, format)
    return data.getvalue()


class Numbers:
    """Two shards of five pictures; fails once at a given row."""

    name, shards = "numbers", 2

    def __init__(self, fails_at: tuple[int, int] | None = None) -> None:
        self.fails_at, self.read_rows = fails_at, []

    def read(self, shard, skip):
        for row in range(skip, 5):
            if (shard, row) == self.fails_at:
                raise OSError("connection reset")
            self.read_rows.append((shard, row))
            yield Row(".png", picture(10 * shard + row), f"number {10 * shard + row}")


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(streams, "BLOCK", 2)


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_stream_becomes_a_folder_of_its_rows_in_their_order(tmp_path):
    source = FolderImages(path=str(kept(Numbers(), tmp_path)), size=16).open()
    assert len(source) == 10
    levels = (source.images(range(10))[:, 0, 0, 0] + 1) * 127.5
    assert levels.round().int().tolist() == [*range(5), *range(10, 15)]
    assert source.captions([7, 0]) == ["number 12", "number 0"]


def test_a_stream_that_was_cut_off_goes_on_with_the_next_block_and_leaves_the_same_bytes(tmp_path):
    with pytest.raises(ValueError, match="shard 1 of numbers cannot be read: connection reset"):
        kept(Numbers(fails_at=(1, 3)), tmp_path / "cut")
    again = Numbers()
    folder = kept(again, tmp_path / "cut")
    assert again.read_rows == [(1, 2), (1, 3), (1, 4)]
    assert contents(folder) == contents(kept(Numbers(), tmp_path / "whole"))
    once_more = Numbers()
    kept(once_more, tmp_path / "cut")
    assert once_more.read_rows == []


def test_several_processes_share_the_shards(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    first, second = Numbers(), Numbers()

    def other_process(seconds):
        monkeypatch.setenv("RANK", "1")
        kept(second, tmp_path)

    monkeypatch.setattr("detokenizers.peers.time.sleep", other_process)
    assert len(list(kept(first, tmp_path).glob("*.tar"))) == 6
    assert {shard for shard, _ in first.read_rows} == {0}
    assert {shard for shard, _ in second.read_rows} == {1}


def test_names_with_a_dot_before_them_are_found_in_a_tar(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for number, name in enumerate(["./b/one.png", "./two.jpg", "./.hidden.png", "./two.txt"]):
            entry = tarfile.TarInfo(name)
            entry.size = len(picture(number))
            tar.addfile(entry, io.BytesIO(picture(number)))
    source = FolderImages(path=str(tmp_path), size=16).open()
    assert [file.id for file in source.files] == ["b/one", "two"]
    assert source.images([0]).mean() == -1


def test_a_tar_that_was_cut_off_is_one_clear_line(tmp_path):
    folder = kept(Numbers(), tmp_path)
    path = folder / "00000-0000.tar"
    last = list(members(path).values())[-1]
    path.write_bytes(path.read_bytes()[: last.offset + 3])
    with pytest.raises(ValueError, match=r"00000-0000.tar is not a readable tar .+; was its download or copy cut off"):
        FolderImages(path=str(folder), size=16).open()


@pytest.mark.parametrize(
    ("settings", "library"),
    [({"kind": "webdataset", "shards": "x.tar"}, "webdataset"), ({"kind": "dataset", "name": "x"}, "datasets")],
)
def test_a_library_that_is_not_installed_is_named_with_the_way_out(settings, library, monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, library, None)
    source = TypeAdapter(ImageSource).validate_python({**settings, "size": 16, "copies": str(tmp_path)})
    with pytest.raises(ValueError, match=rf"read by {library}; `pip install 'detokenizers\[data\]'`"):
        source.open()


def levels(source) -> list[int]:
    return ((source.images(range(len(source)))[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()


def test_webdataset_shards_are_read_by_webdataset(tmp_path):
    wds = pytest.importorskip(
        "webdataset", reason="webdataset is not installed; `pip install -e '.[data]'` (.ci/run does)"
    )
    for shard in range(2):
        with wds.TarWriter(str(tmp_path / f"in-{shard}.tar")) as writer:
            for row in range(3):
                writer.write({"__key__": f"k{row}", "png": picture(10 * shard + row), "txt": f"{shard} {row}"})
    config = TypeAdapter(ImageSource).validate_python(
        {"kind": "webdataset", "shards": f"{tmp_path}/in-{{0..1}}.tar", "size": 16, "copies": str(tmp_path / "copies")}
    )
    source = config.open()
    assert levels(source) == [0, 1, 2, 10, 11, 12]
    assert source.captions([4, 0]) == ["1 1", "0 0"]
    assert source.fingerprint() == config.open().fingerprint()
    assert torch.equal(source.images([5]), config.open().images([5]))


def test_a_streamed_data_set_is_read_by_datasets(tmp_path):
    datasets = pytest.importorskip(
        "datasets", reason="datasets is not installed; `pip install -e '.[data]'` (.ci/run does)"
    )
    for shard in range(2):
        rows = {
            "image": [{"bytes": picture(10 * shard + row), "path": None} for row in range(3)],
            "text": [f"{shard} {row}" for row in range(3)],
        }
        features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
        datasets.Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / f"in-{shard}.parquet"))
    ask = {"kind": "dataset", "name": "parquet", "files": f"{tmp_path}/*.parquet", "size": 16, "caption": "text"}
    source = TypeAdapter(ImageSource).validate_python({**ask, "copies": str(tmp_path / "copies")}).open()
    assert levels(source) == [0, 1, 2, 10, 11, 12]
    assert source.captions([4, 0]) == ["1 1", "0 0"]
    wrong = TypeAdapter(ImageSource).validate_python({**ask, "caption": "words", "copies": str(tmp_path / "copies")})
    with pytest.raises(ValueError, match="parquet has no column 'words' but image, text"):
        wrong.open()
