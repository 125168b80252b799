"""Contact sheets: everything is there, at a size a person can see, and nothing is cut off."""

import numpy as np
import pytest
import torch

from detokenizers.evaluation.sheets import colours, contact_sheet, font, heat_map, panelled, tile_size, wrap


def test_small_pictures_are_enlarged_by_whole_multiples_to_192_px_or_more():
    assert [tile_size(side) for side in (32, 64, 100, 192, 384)] == [192, 192, 200, 192, 384]


def test_each_picture_keeps_its_colour_in_its_own_cell():
    red, blue = torch.tensor([1.0, -1, -1]), torch.tensor([-1.0, -1, 1])
    columns = {"first": red.view(1, 3, 1, 1).expand(2, 3, 64, 64), "second": blue.view(1, 3, 1, 1).expand(2, 3, 96, 96)}
    pixels = np.asarray(contact_sheet(["a red square", "another one"], columns))
    for colour in ((255, 0, 0), (0, 0, 255)):
        assert (pixels == colour).all(-1).sum() == 2 * 192 * 192
    assert (pixels[:20] == 255).all()
    assert (pixels[:, -20:] == 255).all()


def test_the_heat_column_shows_one_flat_square_per_token_over_the_whole_range():
    tile = np.asarray(heat_map(torch.tensor([[0.0, 1.0], [0.5, 2.0]]), 100))
    for (y, x), shade in (((0, 0), 0), ((0, 99), 255), ((99, 0), 128), ((99, 99), 255)):
        assert tuple(tile[y, x]) == tuple(colours()[shade])


def test_the_colour_map_gets_lighter_all_the_way():
    linear = (colours() / 255.0) ** 2.2 @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(linear) > -2e-3).all()
    assert linear[0] < 0.05
    assert linear[-1] > 0.8


def test_a_heat_column_and_a_note_make_the_sheet_larger_not_busier():
    images = {"decoder": torch.zeros(1, 3, 64, 64)}
    plain = contact_sheet(["a dog"], images)
    full = contact_sheet(["a dog"], images, heat=torch.rand(1, 8, 8), note="how it was made")
    assert full.width > plain.width
    assert full.height > plain.height
    assert np.array_equal(np.asarray(full), np.asarray(full.copy()))


def test_long_captions_wrap_inside_their_width_and_end_in_an_ellipsis():
    face = font(19)
    lines = wrap("a yellow crab and a green helicopter on a checkered floor " * 9, face, 180, 6)
    assert len(lines) == 6
    assert lines[-1].endswith("…")
    assert max(face.getlength(line) for line in lines) <= 180


def test_wrapping_loses_no_letter_even_of_words_wider_than_the_line():
    text = "Donaudampfschifffahrtsgesellschaftskapitän drives"
    assert "".join(wrap(text, font(19), 90)) == text.replace(" ", "")


@pytest.mark.parametrize(("count", "columns"), [(24, 2), (24, 3), (12, 3), (9, 2), (64, 4), (23, 1)])
def test_many_rows_fill_panels_until_the_sheet_has_the_shape_of_a_screen(count, columns):
    images = torch.linspace(-1, 1, count).view(count, 1, 1, 1).expand(count, 3, 32, 32)
    sheet = contact_sheet(["a dog"] * count, {f"decoder {index}": images for index in range(columns)})
    assert 1 < sheet.width / sheet.height < 2.2


def test_every_picture_is_in_some_panel_and_panels_are_filled_from_the_left():
    shades = torch.tensor([-1.0, 1, 1]).view(1, 3, 1, 1).expand(10, 3, 64, 64)
    pixels = np.asarray(contact_sheet(["a cyan square"] * 10, {"one": shades, "two": shades}))
    assert (pixels == (0, 255, 255)).all(-1).sum() == 20 * 192 * 192
    for count in range(1, 70):
        rows, panels = panelled(count, (634, 212))
        assert rows * (panels - 1) < count <= rows * panels
        assert panels == 1 or count > 4


def test_columns_of_another_length_are_refused():
    with pytest.raises(ValueError, match="2 captions need as many images"):
        contact_sheet(["one", "two"], {"decoder": torch.zeros(3, 3, 64, 64)})
