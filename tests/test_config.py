"""Settings: frozen, strict, the same in Python and YAML, and wrong ones are one clear line."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError

from detokenizers.config import Config


class Small(Config):
    kind: Literal["small"] = "small"
    size: int = Field(default=1, ge=0)


class Large(Config):
    kind: Literal["large"] = "large"
    weight: float = 2.0


class Outer(Config):
    name: str
    part: Annotated[Small | Large, Field(discriminator="kind")] = Small()
    pair: tuple[float, float] = (0.9, 0.99)
    """Two numbers."""


def refusal(change: dict) -> str:
    with pytest.raises(ValueError) as caught:
        Outer(name="a").vary(change)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def test_dotted_keys_reach_into_nested_settings_and_leave_the_original():
    run = Outer(name="a")
    assert run.vary({"part.size": 3}).part == Small(size=3)
    assert run.part == Small(size=1)


def test_a_part_is_exchanged_whole():
    assert Outer(name="a").vary({"part": Large(weight=3.0)}).part == Large(weight=3.0)
    assert Outer(name="a").vary(part=Large(), name="b") == Outer(name="b", part=Large())


@pytest.mark.parametrize(
    ("change", "clue"),
    [
        ({"nmae": "b"}, "Outer has no setting 'nmae'; it has name, part, pair"),
        ({"part.sise": 1}, "Outer has no setting 'part.sise'; it has kind, size"),
        ({"prat.size": 1}, "Outer has no setting 'prat.size'; it has name, part, pair"),
        ({"name.first": 1}, "nothing lies within 'a'"),
        ({"part.size": -1}, "part.small.size: Input should be greater than or equal to 0"),
        ({"part.size": "many"}, "valid integer"),
        ({"pair": (1.0,)}, "pair"),
    ],
)
def test_a_change_that_does_not_fit_is_one_line_that_names_it(change, clue):
    assert clue in refusal(change)


def test_settings_cannot_be_changed_in_place():
    with pytest.raises(ValidationError, match="frozen"):
        Outer(name="a").name = "b"  # pyright: ignore[reportAttributeAccessIssue]


def test_yaml_brings_the_same_settings_back(tmp_path):
    run = Outer(name="ä: #1", part=Large(weight=0.1), pair=(0.5, 1e-9))
    (tmp_path / "run.yaml").write_text(run.to_yaml(), encoding="utf-8")
    assert Outer.from_yaml(tmp_path / "run.yaml") == run


@pytest.mark.parametrize(
    ("text", "clue"),
    [
        ("name: a\ncolour: red\n", "colour: Extra inputs are not permitted; Outer has name, part, pair"),
        ("part: {kind: small}\n", "name: Field required"),
        ("name: a\npart: {kind: medium}\n", "part: Input tag 'medium'"),
        ("- 1\n- 2\n", "the top level"),
        ("", "the top level"),
        ("name: [a\n", "is not valid YAML"),
    ],
)
def test_a_file_that_does_not_fit_is_one_line_that_names_the_file(tmp_path, text, clue):
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ValueError) as caught:
        Outer.from_yaml(tmp_path / "run.yaml")
    assert clue in str(caught.value)
    assert str(tmp_path / "run.yaml") in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_that_cannot_be_read_is_one_line(tmp_path):
    with pytest.raises(ValueError, match="there is no config file at"):
        Outer.from_yaml(tmp_path / "nowhere.yaml")
    with pytest.raises(ValueError, match="cannot read"):
        Outer.from_yaml(tmp_path)
    (tmp_path / "weights.yaml").write_bytes(b"\x80\x81\xff")
    with pytest.raises(ValueError, match=r"weights\.yaml:1: this is not UTF-8 text"):
        Outer.from_yaml(tmp_path / "weights.yaml")


def test_equal_settings_have_equal_fingerprints_and_others_do_not():
    one = Outer(name="a")
    assert one.fingerprint() == Outer(name="a").fingerprint()
    assert len({one.fingerprint(), one.vary(name="b").fingerprint(), one.vary({"part.size": 2}).fingerprint()}) == 3


def test_field_docstrings_are_the_help():
    assert Outer.model_fields["pair"].description == "Two numbers."
