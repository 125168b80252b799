"""What the page refuses of strangers, and in which words; without a browser and without gradio."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from contextlib import suppress

import pytest
from PIL import Image

from detokenizers.cli import main
from detokenizers.demo.demo_settings import DemoConfig
from detokenizers.demo.limits import BodyLimit, Limits, line_for_strangers

LIMITS = Limits(DemoConfig(longest_prompt=20, largest_picture=1, most_steps=5))


def test_what_is_within_the_limits_passes(tmp_path):
    Image.new("RGB", (1000, 1000)).save(tmp_path / "a.png")
    assert LIMITS.prompt(" a dog on grass\n") == "a dog on grass"
    assert LIMITS.seed(7.0) == 7
    assert (LIMITS.steps(0), LIMITS.steps(5)) == (None, 5)
    assert LIMITS.picture(str(tmp_path / "a.png")) == tmp_path / "a.png"


@pytest.mark.parametrize(
    ("limit", "value", "said"),
    [
        ("prompt", "x" * 21, "21 characters, more than the 20"),
        ("prompt", "  ", "no prompt"),
        ("prompt", None, "no prompt"),
        ("seed", None, "from 0 to 2147483647"),
        ("seed", -1, "and is -1"),
        ("seed", 0.5, "whole number"),
        ("steps", 6, "from 0 to 5"),
        ("steps", float("nan"), "and is nan"),
        ("picture", None, "upload one"),
    ],
)
def test_what_is_beyond_is_refused(limit, value, said):
    with pytest.raises(ValueError, match=said):
        getattr(LIMITS, limit)(value)


def test_pictures_too_large_or_of_rare_formats_are_refused_before_they_are_read(tmp_path, monkeypatch):
    Image.new("1", (1001, 1000)).save(tmp_path / "large.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "rare.png", format="TIFF")
    (tmp_path / "none.png").write_text("no picture")
    monkeypatch.setattr(Image.Image, "load", None)
    for name, said in (
        ("large", "1001x1000 px, more than the 1 million"),
        ("rare", "a TIFF file"),
        ("none", "not a pi"),
    ):
        with pytest.raises(ValueError, match=said):
            LIMITS.picture(str(tmp_path / f"{name}.png"))


def test_a_failure_is_one_line_of_text_without_the_folder_of_the_upload(tmp_path):
    path = str(tmp_path / "a.png")
    error = ValueError(f"{path} is\nno <b>picture</b>")
    assert line_for_strangers(error, [path, 0.0, None]) == "the file is no &lt;b&gt;picture&lt;/b&gt;"


def test_a_bug_says_nothing_to_strangers_and_all_to_the_log(caplog):
    with caplog.at_level(logging.ERROR, "detokenizers"):
        assert "/secret" not in line_for_strangers(KeyError("/secret"), [])
    assert "/secret" in caplog.text


@pytest.mark.parametrize(("kind", "read"), [("http", 10), ("websocket", 15)])
def test_the_body_of_a_request_is_not_read_beyond_the_limit(kind, read):
    chunks, seen = [b"12345"] * 3, []

    async def receive():
        return {"body": chunks.pop()}

    async def app(scope, receive, send):
        while chunks:
            seen.append((await receive())["body"])

    work = BodyLimit(app, 10, BufferError)({"type": kind}, receive, None)
    with suppress(BufferError):
        asyncio.run(work)
    assert sum(map(len, seen)) == read


def test_an_address_that_cannot_be_had_is_refused_before_anything_is_loaded(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["demo", "--port", port]) == 2
    assert f"127.0.0.1:{port} cannot be listened on (Address already in use)" in capsys.readouterr().err
    assert main(["demo", "--host", "256.1.1.1"]) == 2
    assert "another --host or --port" in capsys.readouterr().err


@pytest.mark.usefixtures("embedded")
def test_without_gradio_the_verb_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["demo", "--port", "7899"]) == 2
    assert capsys.readouterr().err == "detok: the page needs gradio; pip install 'detokenizers[demo]'\n"
