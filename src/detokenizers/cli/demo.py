"""`detok demo`: a page to look at. The work is `demo.serving.serve`'s."""

from __future__ import annotations

import os

from ..demo.demo_settings import DemoConfig


class Demo(DemoConfig):
    """Serve a page with prompts, uploaded pictures, decoders side by side, uncertainty, steps and timings.

    Needs gradio: pip install 'detokenizers[demo]'. For this machine alone unless --host 0.0.0.0 is given; there is no
    password, and the limits below are what strangers have.

    detok demo --port 7860
    """


def run(request: Demo) -> None:
    """Serve the page, and print where it is."""
    from ..demo.serving import serve

    serve(request, lambda address: print(f"look at {address} (Ctrl-C ends)", flush=True))
    os._exit(0)  # nobody waits for what is still being drawn, and threads of libraries do not outlive an exit in peace
