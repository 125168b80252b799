"""Models and page, served at an address until interrupted, and nothing left behind.

Safe to strangers: they reach no file but uploads and pictures, in a folder of this process's own that goes with it;
nothing is fetched for them; requests are of limited size and wait in one queue of limited length.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from tempfile import TemporaryDirectory

from ..device import device_of
from ..drawing.decoders import labelled, load_decoders
from ..drawing.drawing_settings import VLM
from ..drawing.live import LiveDrawing
from ..papers import load_vlm
from .demo_settings import DemoConfig


def serve(config: DemoConfig, ready: Callable[[str], object]) -> None:
    """Load the models, then serve the page until interrupted or ended.

    Args:
        ready: called with the address.

    Raises:
        ValueError: gradio is not installed, the port is taken, or a model cannot be loaded.
    """
    try:
        family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
        socket.create_server((config.host, config.port), family=family).close()
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]  # the address again
        raise ValueError(
            f"{config.host}:{config.port} cannot be listened on ({reason}); choose another --host or --port"
        ) from None
    try:
        import gradio as gr
        import safehttpx
        from starlette.exceptions import HTTPException
        from starlette.middleware import Middleware
    except ImportError:
        raise ValueError("the page needs gradio; pip install 'detokenizers[demo]'") from None
    from .limits import BodyLimit, no_address
    from .page import CSS, page

    device = device_of(config.device)
    vlm = load_vlm(config.vlm or VLM, device=device)
    drawing = LiveDrawing(vlm, load_decoders(labelled(config.decoder), lambda: vlm.tokenizer, device, config.vlm))
    most = (config.largest_file + 1) * 2**20  # room for what a request has beside its file
    safehttpx.async_validate_url = no_address  # asked by all that would read from an address
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with TemporaryDirectory(prefix="detok-demo-") as folder, suppress(KeyboardInterrupt):
        os.environ["GRADIO_TEMP_DIR"] = folder
        blocks = page(drawing, config).queue(max_size=config.waiting, api_open=False, default_concurrency_limit=1)
        _, address, _ = blocks.launch(
            server_name=config.host,
            server_port=config.port,
            max_file_size=f"{config.largest_file}mb",
            css=CSS,
            theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
            app_kwargs={"middleware": [Middleware(BodyLimit, most, lambda: HTTPException(413))]},
            footer_links=[],
            share=False,
            show_error=False,
            run_history=False,
            ssr_mode=False,
            quiet=True,
            prevent_thread_lock=True,
        )
        ready(address)
        try:
            threading.Event().wait()
        finally:
            blocks.close(verbose=False)
