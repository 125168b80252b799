"""Preparations: each is the kernel and crop its name says; pictures that do not fit are refused with the way out."""

import numpy as np
import pytest
from PIL import Image

from detokenizers.data.canonical import PNG, PREPARATIONS, RULE, AnySize, AsIs, Header, Prepared, header

ORIENTATION = 0x0112


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.mark.parametrize(
    ("name", "kernel"),
    [("short-side-bicubic", Image.Resampling.BICUBIC), ("short-side-lanczos", Image.Resampling.LANCZOS)],
)
def test_the_short_side_is_resized_before_the_centre_is_taken(photo, name, kernel):
    resized = Image.open(photo).resize((33, 24), kernel)
    assert np.array_equal(Prepared(name, 24)(photo), np.asarray(resized.crop((4, 0, 28, 24))))


def test_the_short_sides_centre_is_torchvision_s_and_adm_s_its_own(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 27, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    for name, left in (("short-side-bicubic", 2), ("short-side-lanczos", 2), ("adm", 1)):
        assert np.array_equal(Prepared(name, 24)(tmp_path / "wide.png"), pixels[:, left : left + 24])
    assert np.array_equal(Prepared(RULE, 24)(tmp_path / "wide.png"), pixels[:, 2:26])


@pytest.mark.parametrize(
    "reader",
    [
        lambda load: Prepared("short-side-bicubic", 16, load=load),
        lambda load: AnySize(load),
        lambda load: AsIs(16, 16, load=load),
    ],
    ids=["prepared", "any size", "as is"],
)
def test_rotation_and_transparency_are_what_the_loader_makes_of_them(reader, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 4), np.uint8)
    exif = Image.Exif()
    exif[ORIENTATION] = 3  # upside down
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    theirs = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    assert np.array_equal(reader("pil-rgb")(tmp_path / "a.png"), theirs)
    ours = reader("upright-on-white")(tmp_path / "a.png")
    opacity = pixels[::-1, ::-1, 3:] / 255
    on_white = pixels[::-1, ::-1, :3] * opacity + 255 * (1 - opacity)
    np.testing.assert_allclose(ours, on_white, atol=1.01)


def test_adm_halves_with_a_box_first(photo):
    halved = Image.open(photo).resize((35, 25), Image.Resampling.BOX)
    expected = halved.resize((28, 20), Image.Resampling.BICUBIC).crop((4, 0, 24, 20))
    assert np.array_equal(Prepared("adm", 20)(photo), np.asarray(expected))


def test_what_is_the_right_size_already_stays_as_it_is(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for name in PREPARATIONS:
        assert np.array_equal(Prepared(name, 24)(tmp_path / "a.png"), pixels)


@pytest.mark.parametrize("name", PREPARATIONS)
def test_every_preparation_enlarges_small_pictures_and_can_refuse_them(photo, name):
    assert Prepared(name, 64)(photo).shape == (64, 64, 3)
    with pytest.raises(ValueError, match="70x50 px, but its shorter side must have 64 px"):
        Prepared(name, 64, smallest=64)(photo)


def test_as_is_wants_all_pictures_like_the_first(photo, tmp_path):
    reader = AsIs.alike(photo, None, png_only=False)
    assert reader(photo).shape == (50, 70, 3)
    Image.new("RGB", (64, 64)).save(tmp_path / "other.png")
    with pytest.raises(ValueError, match="is 64x64 px, but this protocol resizes nothing"):
        reader(tmp_path / "other.png")
    Image.new("RGB", (70, 50)).save(tmp_path / "other.jpg")
    with pytest.raises(ValueError, match="is a JPEG file, and only PNG is allowed here"):
        reader(tmp_path / "other.jpg")


def test_a_protocols_size_and_format_are_demanded_of_the_first_picture_too(photo, tmp_path):
    with pytest.raises(ValueError, match=r"is 70x50 px, but .* must all be 64x64 px"):
        AsIs.alike(photo, 64, png_only=True)(photo)
    Image.new("RGB", (64, 64)).save(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match="only PNG is allowed"):
        AsIs.alike(tmp_path / "a.jpg", 64, png_only=True)(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match="only PNG is allowed"):
        Prepared("adm", 32, PNG)(tmp_path / "a.jpg")


def test_any_size_takes_what_comes(photo):
    assert AnySize()(photo).shape == (50, 70, 3)


def test_a_header_says_format_and_size_without_decoding(photo, tmp_path):
    assert header(photo) == Header("PNG", 70, 50)
    photo.write_bytes(photo.read_bytes()[:200])
    assert str(header(photo)) == "70x50 px PNG"
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ValueError, match="not a picture"):
        header(tmp_path / "text.png")
    with pytest.raises(ValueError, match="there is no picture at"):
        header(tmp_path / "nowhere.png")
