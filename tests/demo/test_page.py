"""The page in a real browser, drawn by tiny random models; and what a stranger who uses no browser is refused.

Needs `pip install 'detokenizers[demo]' selenium` and Debian's chromium and chromium-driver, which `.ci/run` installs.
"""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.demo import browser
from tests.demo.browser import draw, press, served, until, visible

pytestmark = pytest.mark.skipif(bool(browser.MISSING), reason=f"not installed: {', '.join(browser.MISSING)}")
PROMPT = "a dog on grass"


@pytest.fixture(scope="module")
def address(tiny_stack, tmp_path_factory):
    """A page with three decoders, of which two draw in steps."""
    other = tmp_path_factory.mktemp("runs") / "other"
    shutil.copytree(tiny_stack / "mini" / "dcdd", other)
    decoders = ["--decoder", "vq", str(tiny_stack / "mini" / "dcdd"), str(other)]
    limits = ["--largest-file", "1", "--longest-prompt", "40", "--most-steps", "30"]
    with served("--vlm", str(tiny_stack / "mini" / "vlm"), *decoders, *limits) as found:
        yield found


@pytest.fixture(scope="module")
def driver():
    with browser.browser() as found:
        yield found


def test_a_prompt_is_drawn_by_all_decoders_with_uncertainty_steps_and_seconds(driver, address):
    driver.get(address)
    draw(driver, PROMPT)
    until(driver, lambda: len(visible(driver, ".steps img")) == 16)  # eight a decoder
    text = driver.find_element("css selector", "body").text
    assert {"vq", "dcdd", "other", "uncertainty"} <= set(text.splitlines())
    assert [row.text.split()[0] for row in visible(driver, "tbody tr")] == ["tokens", "vq", "dcdd", "other"]
    pictures = [opened(one.get_attribute("src")) for one in visible(driver, ".picture .image-frame img")]
    assert [one.shape for one in pictures] == [(16, 16, 3)] * 3 + [(192, 192, 3)]
    assert np.array_equal(pictures[1], pictures[2])  # the same decoder under another name
    assert not np.array_equal(pictures[0], pictures[1])
    before, after = (opened(one) for one in compared(driver))
    assert np.array_equal(before, pictures[0])
    assert np.array_equal(after, pictures[2])
    assert driver.get_log("browser") == []


def test_the_slider_compares_the_decoders_that_are_chosen(driver, address):
    driver.get(address)
    draw(driver, PROMPT)
    until(driver, lambda: len(visible(driver, ".steps img")) == 16)
    first = compared(driver)
    visible(driver, "input[aria-label=before]")[0].click()
    options = lambda: [one for one in visible(driver, "[role=option]") if one.text.endswith("other")]  # noqa: E731
    until(driver, options)[0].click()
    until(driver, lambda: compared(driver)[0] != first[0])
    assert np.array_equal(*map(opened, compared(driver)))


def test_an_uploaded_picture_is_reconstructed_and_measured(driver, address, tmp_path):
    Image.effect_noise((40, 30), 90).save(tmp_path / "photo.jpg")
    driver.get(address)
    until(driver, lambda: visible(driver, "button[role=tab]"))[1].click()
    until(driver, lambda: driver.find_elements("css selector", "input[type=file]"))[0].send_keys(
        str(tmp_path / "photo.jpg")
    )
    until(driver, lambda: visible(driver, "[data-testid=image] img, .image-frame img"))
    press(driver, "Reconstruct")
    head = until(driver, lambda: visible(driver, "thead"))[0].text
    assert "PSNR" in head
    assert [row.text.split()[0] for row in visible(driver, "tbody tr")] == ["vq", "dcdd", "other"]


def test_what_cannot_be_drawn_is_one_line_on_the_page(driver, address):
    driver.get(address)
    draw(driver, "a <i>zzyzx</i>")
    line = until(driver, lambda: visible(driver, ".toast-body"))[0].text
    assert "zzyzx" in line
    assert "Traceback" not in line


def test_no_file_of_the_server_and_no_address_is_read(address):
    for path in (
        "/etc/passwd",
        str(Path(__file__)),
        "pyproject.toml",
        "http://127.0.0.1:1/",
        "https://example.com/a.png",
    ):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"{address}/gradio_api/file={path}")
        answer = asked(address, "Reconstruct", [{"path": path, "meta": {"_type": "gradio.FileData"}}, 0, 0])
        assert answer == {"error": None}, path


def test_limits_hold_for_those_who_use_no_browser(address):
    assert "more than the 40" in asked(address, "Draw", ["a" * 41, 0, 0])["error"]
    assert "error" in asked(address, "Draw", [PROMPT, 0, 31])
    assert "error" in asked(address, "Draw", [PROMPT, -1, 0])
    with pytest.raises(urllib.error.HTTPError, match="413"):
        upload(address, b"\0" * 1_100_000)
    # Whoever is still sending when the answer comes may find the connection closed.
    refused = pytest.raises(urllib.error.URLError, match=r"413|reset|[Bb]roken pipe")
    with refused:
        upload(address, b"\0" * 9_000_000)
    with refused:
        asked(address, "Draw", ["a" * 9_000_000, 0, 0])


def upload(address: str, content: bytes) -> None:
    boundary = "xxx"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'.encode()
    body = head + content + f"\r\n--{boundary}--\r\n".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    urllib.request.urlopen(urllib.request.Request(f"{address}/gradio_api/upload", body, kind))


def test_there_is_no_way_around_the_queue(address):
    with urllib.request.urlopen(f"{address}/gradio_api/info") as found:
        assert json.load(found)["named_endpoints"] == {}
    body = json.dumps({"data": ["vq", "dcdd", PROMPT, 0, 0], "fn_index": function(address, "Draw")}).encode()
    with pytest.raises(urllib.error.HTTPError, match=r"40[0-9]"):
        urllib.request.urlopen(
            urllib.request.Request(f"{address}/gradio_api/run/predict", body, {"Content-Type": "application/json"})
        )


def opened(link: str) -> np.ndarray:
    with urllib.request.urlopen(link) as file:
        return np.asarray(Image.open(file).convert("RGB"))


def compared(driver) -> list[str]:
    """The two pictures of the slider."""
    return [one.get_attribute("src") for one in visible(driver, ".slider-wrap img, .picture .img-comp-container img")]


def config(address: str) -> dict:
    with urllib.request.urlopen(f"{address}/config") as found:
        return json.load(found)


def function(address: str, text: str) -> int:
    """The number of what the button with this text does."""
    page = config(address)
    (id,) = (one["id"] for one in page["components"] if one["props"].get("value") == text and one["type"] == "button")
    (found,) = (one["id"] for one in page["dependencies"] if [id, "click"] in one["targets"])
    return found


def asked(address: str, text: str, inputs: list) -> dict:
    """What the server answers to somebody who writes the browser's requests by hand."""
    body = {"data": ["vq", "vq", *inputs], "fn_index": function(address, text), "session_hash": "stranger"}
    kind = {"Content-Type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(f"{address}/gradio_api/queue/join", json.dumps(body).encode(), kind))
    with urllib.request.urlopen(f"{address}/gradio_api/queue/data?session_hash=stranger") as events:
        for line in events:
            event = json.loads(line[5:]) if line.startswith(b"data:") else {}
            if event.get("msg") == "process_completed":
                return event["output"]
    raise AssertionError("the queue ended without an answer")
