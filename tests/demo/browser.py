"""`detok demo` in a process of its own, and a headless Chromium that uses it as a person would.

python -m tests.demo.browser docs/demo.png    # the picture of the README
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from time import sleep
from typing import Any

from PIL import Image

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
MISSING = [
    name
    for name, found in (
        ("gradio", find_spec("gradio")),
        ("selenium", find_spec("selenium")),
        ("chromium", BROWSER),
        ("chromium-driver", DRIVER),
    )
    if not found
]
PROMPT = "two red apples on a wooden table"
PATIENCE = 900
"""Seconds; what takes ten on a quiet machine takes many minutes on a busy one."""


@contextmanager
def served(*options: str) -> Iterator[str]:
    """The address of a page with these options, ended with an interrupt as a person would."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "detokenizers", "demo", "--port", port, *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, line + process.stdout.read()
        yield found[0].rstrip("/")
    finally:
        process.terminate()
        process.wait(PATIENCE)


@contextmanager
def browser(width: int = 1280, height: int = 1000) -> Iterator[Any]:
    """A headless Chromium that cannot reach anything but this machine."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER or ""
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--window-size={width},{height}",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--hide-scrollbars",
    ):  # fmt: skip
        options.add_argument(argument)
    os.environ["SE_OFFLINE"] = "true"
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def until(driver: Any, found: Any) -> Any:
    """What `found()` returns as soon as it is something."""
    from selenium.common.exceptions import WebDriverException
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, PATIENCE, ignored_exceptions=[WebDriverException]).until(lambda _: found())


def visible(driver: Any, selector: str) -> list[Any]:
    """The elements of a selector that are to be seen; the page's other tab is there, too."""
    return [one for one in driver.find_elements("css selector", selector) if one.is_displayed()]


def press(driver: Any, text: str) -> None:
    """Press the button of that text, as soon as nothing lies over it."""
    until(driver, lambda: [one.click() for one in visible(driver, "button") if one.text.strip() == text])


def draw(driver: Any, prompt: str) -> None:
    """Write a prompt and press the button."""
    box = until(driver, lambda: visible(driver, "#prompt textarea"))[0]
    box.clear()
    box.send_keys(prompt)
    press(driver, "Draw")


def screenshot(path: Path) -> None:
    """What the page looks like after a prompt."""
    with served() as address, browser(height=1250) as driver:
        driver.get(address)
        draw(driver, PROMPT)
        until(driver, lambda: len(visible(driver, ".steps img")) >= 8)
        sleep(2)  # for the last of the pictures
        full = Image.open(BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    full.quantize(palette=full.quantize(256), dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)


if __name__ == "__main__":
    screenshot(Path(sys.argv[1]))
