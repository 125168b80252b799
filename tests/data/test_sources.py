"""Where training images come from: numbered rows that never change."""

from __future__ import annotations

import os
import shutil
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import TypeAdapter

from detokenizers.data.sources import Folder, FolderImages, ImageSource, Scenes, WorldImages, shuffled_rows
from detokenizers.data.world.scenes import caption
from detokenizers.data.world.world import World, WorldConfig

WORLD = WorldConfig(resolution=16)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name, size in (("b/wide", (40, 20)), ("a", (16, 16)), ("c", (8, 12))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8)).save(tmp_path / f"{name}.png")
    return tmp_path


def test_scenes_are_those_of_the_world():
    source, world = WorldImages(world=WORLD, count=10).open(), World(WORLD)
    assert len(source) == 10
    images = source.images([3, 7])
    assert images.shape == (2, 3, 16, 16)
    expected = torch.from_numpy(world.scene(7).image).permute(2, 0, 1).float() / 127.5 - 1
    assert torch.equal(images[1], expected)
    assert source.captions([3, 7]) == [caption(world.truth(row)) for row in (3, 7)]


def test_scenes_of_another_split_are_others():
    train, validation = (Scenes(World(WORLD), 4, split) for split in ("train", "validation"))
    assert not torch.equal(train.images([0]), validation.images([0]))
    assert train.fingerprint() != validation.fingerprint()


def test_a_folder_is_read_in_the_order_of_names_square_and_small_pictures_enlarged(folder):
    source = FolderImages(path=str(folder), size=16).open()
    assert len(source) == 3
    images = source.images([0, 1, 2])
    assert images.shape == (3, 3, 16, 16)
    exact = np.asarray(Image.open(folder / "a.png"))
    assert torch.equal(images[0], torch.from_numpy(exact).permute(2, 0, 1).float() / 127.5 - 1)
    assert torch.equal(source.images([2, 0])[1], images[0])


def test_captions_are_text_files_beside_the_pictures(folder):
    source = FolderImages(path=str(folder), size=16).open()
    (folder / "a.txt").write_text("a red dog\n")
    assert source.captions([0]) == ["a red dog"]
    with pytest.raises(ValueError, match=r"there is no .+wide\.txt; put a text file beside every image"):
        source.captions([0, 1])


def test_fingerprints_follow_what_is_in_the_source(folder):
    prints = [Folder(str(folder), 16).fingerprint(), Folder(str(folder), 8).fingerprint()]
    (folder / "d.png").write_bytes((folder / "a.png").read_bytes())
    prints.append(Folder(str(folder), 16).fingerprint())
    Image.new("RGB", (16, 16)).save(folder / "d.png")
    prints.append(Folder(str(folder), 16).fingerprint())
    prints += [WorldImages(world=WORLD, count=count).open().fingerprint() for count in (4, 5)]
    assert len(set(prints)) == 6
    assert Folder(str(folder), 16).fingerprint() == prints[3]


def test_a_source_is_chosen_by_its_kind():
    read = TypeAdapter(ImageSource).validate_python
    assert isinstance(read({"kind": "folder", "path": "x", "size": 64}), FolderImages)
    assert isinstance(read({"kind": "world", "count": 5}), WorldImages)


@pytest.mark.parametrize("build", [lambda: WorldImages(count=0), lambda: FolderImages(path="x", size=0)])
def test_a_source_without_images_is_refused(build):
    with pytest.raises(ValueError, match="greater than or equal"):
        build()


def test_every_epoch_shows_every_row_once_in_another_order():
    epochs = [[row for part in range(first, first + 5) for row in shuffled_rows(part, 4, 20)] for first in (0, 5, 10)]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_batch_may_span_epochs():
    rows = [row for part in range(10) for row in shuffled_rows(part, 7, 5)]
    assert Counter(rows) == dict.fromkeys(range(5), 14)


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_the_parts_of_a_batch_are_its_rows(parts):
    for step in (0, 3, 11):
        split = [row for part in range(parts) for row in shuffled_rows(step * parts + part, 8 // parts, 30)]
        assert split == shuffled_rows(step, 8, 30)


def test_a_fingerprint_is_of_contents_wherever_they_lie_and_whatever_their_dates(folder, tmp_path_factory):
    before = Folder(str(folder), 16).fingerprint()
    elsewhere = tmp_path_factory.mktemp("copies") / "b"
    shutil.copytree(folder, elsewhere)
    assert Folder(str(elsewhere), 16).fingerprint() == before

    state, content = (folder / "a.png").stat(), bytearray((folder / "a.png").read_bytes())
    content[-1] ^= 1
    (folder / "a.png").write_bytes(content)
    os.utime(folder / "a.png", ns=(state.st_atime_ns, state.st_mtime_ns))
    assert (folder / "a.png").stat().st_size == state.st_size
    changed = Folder(str(folder), 16).fingerprint()
    assert changed != before

    (folder / "a.txt").write_text("a red dog")
    assert Folder(str(folder), 16).fingerprint() not in (before, changed)


def test_kept_scenes_are_those_that_are_rendered_and_are_rendered_once(tmp_path, monkeypatch):
    monkeypatch.setattr("detokenizers.data.encoded.SHARD", 4)
    monkeypatch.setattr("detokenizers.data.sources.SHARD", 4)
    rendered, kept = (WorldImages(world=WORLD, count=6, kept=folder).open() for folder in (None, str(tmp_path)))
    rows = [5, 0, 3, 5]
    assert torch.equal(kept.images(rows), rendered.images(rows))
    assert kept.captions(rows) == rendered.captions(rows)
    assert (len(kept), kept.fingerprint()) == (len(rendered), rendered.fingerprint())
    monkeypatch.setattr(World, "batch", lambda *_: pytest.fail("it is rendered again"))
    for count in (6, 8):  # another count of the same files
        WorldImages(world=WORLD, count=count, kept=str(tmp_path)).open().images(rows)
