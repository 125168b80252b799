"""Reading and writing pictures: one canonical way, and one clear line for every file that is not usable."""

import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from detokenizers.data.canonical import RULE, Prepared, batches, header
from detokenizers.data.images import ImageFile, find, notes_of, save_png, upright
from detokenizers.data.marks import MANIFEST, MARK
from detokenizers.evaluation.pairwise import levels
from detokenizers.pixels import to_levels, to_tensor


def read(path, size, **options):
    return Prepared(RULE, size, **options)(path)


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.default_rng(0).integers(256, size=(40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def test_reading_is_one_antialiased_bicubic_resize_of_the_shorter_side_then_the_centre(picture):
    expected = Image.open(picture).resize((24, 16), Image.Resampling.BICUBIC).crop((4, 0, 20, 16))
    np.testing.assert_array_equal(read(picture, 16), np.asarray(expected))


def test_a_square_of_the_right_size_is_not_touched(tmp_path):
    pixels = np.random.default_rng(0).integers(256, size=(16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png", 16), pixels)


def test_images_keep_all_levels_through_tensor_file_and_back(tmp_path):
    pixels = np.arange(256 * 3, dtype=np.uint16).astype(np.uint8).reshape(1, 16, 16, 3)
    image = to_tensor(pixels)
    assert image.min() == -1
    assert image.max() == 1
    save_png(tmp_path / "a.png", image[0])
    np.testing.assert_array_equal(read(tmp_path / "a.png", 16), pixels[0])


def test_saving_rounds_as_the_metrics_do():
    image = torch.rand(1, 3, 50, 50, generator=torch.Generator().manual_seed(0)) * 2.2 - 1.1
    np.testing.assert_array_equal(to_levels(image)[0], levels(image)[0].permute(1, 2, 0).numpy())


def test_png_bytes_are_reproducible_and_notes_travel_inside(tmp_path):
    image = torch.zeros(3, 8, 8)
    for name in ("a.png", "b.png"):
        save_png(tmp_path / name, image, {"prompt": "a Käse", "seed": 3})
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert notes_of(tmp_path / "a.png") == {"prompt": "a Käse", "seed": 3}


def test_transparency_lies_on_white_and_grey_becomes_rgb(tmp_path):
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("L", (8, 8), 7).save(tmp_path / "grey.png")
    assert (read(tmp_path / "clear.png", 8) == 255).all()
    assert (read(tmp_path / "grey.png", 8) == 7).all()


def test_camera_rotation_is_applied(tmp_path):
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[0] = 255
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(pixels).save(tmp_path / "upside-down.png", exif=exif)
    assert (read(tmp_path / "upside-down.png", 8)[-1] == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_eight_orientations_are_put_upright_as_pillow_does(tmp_path, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    pixels = np.random.default_rng(0).integers(256, size=(8, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    expected = ImageOps.exif_transpose(Image.open(tmp_path / "a.png"))
    np.testing.assert_array_equal(np.asarray(upright(tmp_path / "a.png")), np.asarray(expected))


def test_exif_that_pillow_cannot_write_again_does_not_keep_a_picture_from_being_turned(tmp_path):
    path = tmp_path / "negative.jpg"
    entries = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack("<HHII", 0x011A, 10, 1, 38)
    tiff = b"II*\0" + struct.pack("<IH", 8, 2) + entries + struct.pack("<I", 0) + struct.pack("<ii", -1, 0)
    Image.new("RGB", (24, 16)).save(path, exif=b"Exif\0\0" + tiff)
    with pytest.raises(struct.error):
        ImageOps.exif_transpose(Image.open(path))
    assert upright(path).size == (16, 24)


def test_whatever_pillow_raises_is_one_line_that_names_the_file(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(path, pnginfo=metadata(b"x" * 2_000_000))
    with pytest.raises(ValueError, match=r"a\.png cannot be read \(Decompressed data too large"):
        upright(path)
    Image.new("RGB", (8, 8)).save(path)
    for error in (struct.error("ours"), IndexError("ours"), KeyError("ours"), OverflowError("ours"), TypeError("ours")):
        monkeypatch.setattr(Image.Image, "getexif", lambda self, error=error: (_ for _ in ()).throw(error))
        with pytest.raises(ValueError, match=r"a\.png cannot be read \('?ours"):
            upright(path)


def metadata(text: bytes) -> PngInfo:
    chunks = PngInfo()
    chunks.add_text("note", text, zip=True)
    return chunks


def test_a_decompression_bomb_is_refused_wherever_it_is_opened(picture, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for look in (upright, header, notes_of):
        with pytest.raises(ValueError, match=r"picture\.png is too large to read safely"):
            look(picture)


def test_a_name_that_is_not_utf8_is_refused_before_anything_is_drawn(tmp_path):
    Image.new("RGB", (8, 8)).save(os.fsencode(tmp_path) + b"/caf\xe9.png", format="PNG")
    with pytest.raises(ValueError, match=r"the file name '.*caf\\udce9\.png' is not text in UTF-8"):
        find(tmp_path)


@pytest.mark.parametrize("name", ["x" * 251, "é" * 125, "图" * 83])
def test_names_as_long_as_the_file_system_allows_are_read_and_written(tmp_path, name):
    path = tmp_path / f"{name}.png"
    save_png(path, torch.zeros(3, 8, 8), {"prompt": "a dog"})
    assert notes_of(path) == {"prompt": "a dog"}
    assert [file.id for file in find(tmp_path)] == [name]
    assert list(tmp_path.iterdir()) == [path]


def test_ids_are_paths_inside_the_folder_in_sorted_order(tmp_path):
    for name in ("b/2.png", "b/1.jpg", "a.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a picture")
    assert [file.id for file in find(tmp_path)] == ["a", "b/1", "b/2"]


def test_two_files_of_one_id_are_refused(tmp_path):
    for name in ("a.png", "a.jpg"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    with pytest.raises(ValueError, match="would share the id 'a'"):
        find(tmp_path)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there are no pictures in"):
        find(tmp_path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no file or folder at"):
        find(tmp_path / "missing.png")
    with pytest.raises(ValueError, match="there is no picture at"):
        read(tmp_path / "missing.png", 8)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_truncated_file_is_refused(tmp_path, suffix):
    path = tmp_path / f"cut.{suffix}"
    noise = np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"cut\.(png|jpg|webp) (cannot be read|is not a picture)"):
        read(path, 8)


def test_a_file_that_is_not_a_picture_is_refused(tmp_path):
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(ValueError, match=r"text\.png is not a picture"):
        read(tmp_path / "text.png", 8)


def test_a_small_picture_is_enlarged_unless_small_ones_are_refused(picture):
    enlarged = Image.open(picture).resize((96, 64), Image.Resampling.BICUBIC).crop((16, 0, 80, 64))
    np.testing.assert_array_equal(read(picture, 64), np.asarray(enlarged))
    np.testing.assert_array_equal(read(picture, 64, smallest=40), np.asarray(enlarged))
    with pytest.raises(ValueError, match="is 60x40 px, but its shorter side must have 41 px; leave it out, or lower"):
        read(picture, 16, smallest=41)


def test_a_strip_is_refused_before_it_is_enlarged_beyond_all_memory(tmp_path):
    Image.new("RGB", (20_000, 1)).save(tmp_path / "strip.png")
    with pytest.raises(ValueError, match=r"strip\.png is 20000x1 px, and enlarged to 384 px .+ leave it out"):
        read(tmp_path / "strip.png", 384)


def test_sixteen_bit_pictures_are_refused_not_clipped(tmp_path):
    Image.fromarray(np.full((8, 8), 5000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match="not 8 bits per channel"):
        read(tmp_path / "deep.png", 8)


def test_batches_hold_every_picture_once_in_order(picture):
    files = [ImageFile(f"{index}", picture) for index in range(5)]
    found = list(batches(files, 16, batch_size=2))
    assert [ids for ids, _ in found] == [["0", "1"], ["2", "3"], ["4"]]
    assert torch.equal(found[2].images[0], to_tensor(read(picture, 16)[None])[0])


def test_memory_does_not_grow_with_the_number_of_pictures(picture):
    def peak(count):
        files = [ImageFile(str(index), picture) for index in range(count)]
        tracemalloc.start()
        for _ in batches(files, 32, batch_size=4):
            pass
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    peak(8)
    assert peak(200) < 1.5 * peak(20)


def test_a_diverged_image_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="NaN"):
        save_png(tmp_path / "a.png", torch.full((3, 8, 8), float("nan")))
    assert not list(tmp_path.iterdir())


def picture_at(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)
    return path


@pytest.mark.parametrize(
    "name",
    [".ipynb_checkpoints/a-checkpoint.png", "._a.png", "__MACOSX/a.png", "sub/.a.png.jm16jp73.png", ".trash/x/a.png"],
)
def test_hidden_files_and_leftovers_are_no_pictures(tmp_path, capsys, name):
    picture_at(tmp_path / "a.png")
    hidden = picture_at(tmp_path / name)
    hidden.write_bytes(b"half a picture")
    assert [file.id for file in find(tmp_path)] == ["a"]
    line = capsys.readouterr().err
    assert line.startswith(f"detok: 1 picture in {tmp_path}; left out: 1 hidden (")
    assert line.count("\n") == 1


def test_every_format_that_can_be_read_is_found_and_others_are_named(tmp_path, capsys):
    suffixes = ("avif", "jfif", "jp2", "JPG", "ppm", "tga")
    for index, suffix in enumerate(suffixes):
        picture_at(tmp_path / f"{index}.{suffix}")
    for name in ("phone.heic", "logo.svg", "notes.txt"):
        (tmp_path / name).write_text("no picture of ours")
    found = find(tmp_path)
    assert len(found) == len(suffixes)
    assert all(read(file.path, 8).shape == (8, 8, 3) for file in found)
    assert "6 pictures" in (line := capsys.readouterr().err)
    assert "2 of formats that are not read (logo.svg, phone.heic)" in line


def test_linked_folders_are_entered_once(tmp_path, capsys):
    picture_at(tmp_path / "elsewhere" / "e.png")
    picture_at(tmp_path / "d" / "a.png")
    (tmp_path / "d" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "d" / "circle").symlink_to(tmp_path / "d")
    (tmp_path / "d" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert [file.id for file in find(tmp_path / "d")] == ["a", "link/e"]
    line = capsys.readouterr().err
    assert "1 links to folders already counted (circle)" in line
    assert "1 links to nothing (gone.png)" in line


def test_a_folder_that_cannot_be_entered_is_named(tmp_path, capsys, monkeypatch):
    picture_at(tmp_path / "a.png")
    picture_at(tmp_path / "locked" / "b.png")
    enter = os.scandir

    def scandir(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return enter(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert [file.id for file in find(tmp_path)] == ["a"]
    assert "1 unreadable (Permission denied) (locked)" in capsys.readouterr().err


def test_a_plain_folder_is_read_without_a_line_on_stderr(tmp_path, capsys):
    picture_at(tmp_path / "sub" / "a.png")
    find(tmp_path)
    assert capsys.readouterr().err == ""


def test_what_our_own_verbs_drew_below_a_source_is_no_picture_of_it(tmp_path, capsys):
    picture_at(tmp_path / "a.png")
    picture_at(tmp_path / "out" / "vq" / "a.png")
    (tmp_path / "out" / MANIFEST).write_text('{"id": "a", "decoders": ["vq"]}\n')
    save_png(tmp_path / "evaluation.png", torch.zeros(3, 8, 8), MARK)
    picture_at(tmp_path / "sheet.png")
    assert [file.id for file in find(tmp_path)] == ["a", "sheet"]
    assert [file.id for file in find(tmp_path / "out" / "vq")] == ["a"]
    assert "1 drawn by detok (out)" in capsys.readouterr().err


def test_the_error_of_a_folder_of_hidden_pictures_alone_names_them(tmp_path):
    picture_at(tmp_path / ".thumbs" / "a.png")
    with pytest.raises(ValueError, match=r"there are no pictures in .+left out: 1 hidden \(\.thumbs\)"):
        find(tmp_path)
