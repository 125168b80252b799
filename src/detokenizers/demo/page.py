"""The page: a prompt or a picture on the left, what the decoders made of it on the right.

inputs -Limits-> LiveDrawing -> Shown -Results-> components
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gradio as gr
from PIL import Image

from ..drawing.drawing_settings import VLM
from ..drawing.gallery import ORIGINAL
from ..drawing.live import LiveDrawing, Shown
from .demo_settings import DemoConfig
from .limits import LARGEST_SEED, Limits, line_for_strangers

TITLE = "detokenizers"
ONE_AT_A_TIME: Any = {"concurrency_limit": 1, "concurrency_id": "drawing", "api_visibility": "private"}
AS_FILES: Any = {"type": "filepath", "image_mode": None, "format": "png"}
"""No pixel of what comes from a browser is read before `Limits` has seen it."""
FRESH, OLD = 60, 15 * 60
"""Every so many seconds, files of so many seconds are deleted."""
CSS = """
.picture .image-container, .picture .image-frame, .picture img { width: 100% !important; height: 100% !important }
.picture .image-frame { padding-top: 30px }
.picture img { object-fit: contain !important }
"""
"""Pictures as wide as their column, below their names: the smallest decoders draw 64 px."""
EXAMPLES = ("two red apples on a wooden table", "a penguin to the left of a red car on grass", "a strawberry on sand")


def page(drawing: LiveDrawing, config: DemoConfig) -> gr.Blocks:
    """The page, ready to be served."""
    limits, labels, vlm = Limits(config), list(drawing.decoders), config.vlm or VLM
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(FRESH, OLD)) as blocks:
        gr.Markdown(
            f"# {TITLE}\n{vlm}: the same tokens, drawn by {', '.join(labels)}. Where the uncertainty of a token is "
            "dark, the VLM was sure of it."
        )
        with gr.Tab("From a prompt"), gr.Row():
            with gr.Column(scale=1, min_width=260):
                prompt = gr.Textbox(label="Prompt", lines=2, max_length=config.longest_prompt, elem_id="prompt")
                seed, steps, button = _settings(config, "Draw")
                if vlm == "mini":  # which reads the words of its world
                    gr.Examples([[one] for one in EXAMPLES], prompt, api_visibility="private")
            with gr.Column(scale=3):
                results = Results(labels, heat=True)

            def draw(prompt: str, seed: float, steps: float) -> Shown:
                return drawing.draw(limits.prompt(prompt), limits.seed(seed), steps=limits.steps(steps))

            results.follow([button.click, prompt.submit], draw, [prompt, seed, steps])
        with gr.Tab("From a picture"), gr.Row():
            with gr.Column(scale=1, min_width=260):
                photo = gr.Image(label="Picture", sources=["upload", "clipboard"], **AS_FILES)
                seed, steps, button = _settings(config, "Reconstruct")
            with gr.Column(scale=3):
                results = Results([ORIGINAL, *drawing.of_tokens], heat=False)

            def reconstruct(path: str, seed: float, steps: float) -> Shown:
                return drawing.reconstruct(limits.picture(path), limits.seed(seed), steps=limits.steps(steps))

            results.follow([button.click], reconstruct, [photo, seed, steps])
    return blocks


def _settings(config: DemoConfig, verb: str) -> tuple[gr.Number, gr.Slider, gr.Button]:
    seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=LARGEST_SEED)
    steps = gr.Slider(0, config.most_steps, 0, step=1, label="Sampling steps", info="0: each decoder's own number")
    return seed, steps, gr.Button(verb, variant="primary")


class Results:
    """The components that show what was drawn under these names."""

    def __init__(self, names: Sequence[str], *, heat: bool) -> None:
        self.names = names
        with gr.Row():
            self.pictures = [_picture(name) for name in names]
            self.heat = [_picture("uncertainty")] if heat else []
        with gr.Row():
            with gr.Column():
                self.slider = gr.ImageSlider(
                    type="pil", format="png", label="before and after", interactive=False, elem_classes="picture"
                )
                # With two there is nothing to choose.
                with gr.Row(visible=len(names) > 2):
                    self.sides = [gr.Dropdown(list(names), value=names[side], label=SIDES[side]) for side in (0, -1)]
            self.table = gr.Markdown()
        self.steps = gr.Gallery(
            label="steps", format="png", columns=8, height="auto", interactive=False, elem_classes="steps"
        )
        for side in self.sides:
            side.change(self.compared, [*self.sides, *self.pictures], self.slider, api_visibility="private")

    def follow(self, events: Sequence[Callable[..., Any]], work: Callable[..., Shown], inputs: Sequence[Any]) -> None:
        """Show what `work` returns whenever one of these events happens."""

        def show(before: str, after: str, *inputs: Any) -> list[Any]:
            try:
                return self.values(work(*inputs), before, after)
            except Exception as error:
                raise gr.Error(line_for_strangers(error, inputs), print_exception=False) from None

        outputs = [*self.pictures, *self.heat, self.slider, self.table, self.steps]
        for event in events:
            event(show, [*self.sides, *inputs], outputs, **ONE_AT_A_TIME)

    def values(self, shown: Shown, before: str, after: str) -> list[Any]:
        """What the components get."""
        pictures = [shown.pictures[name] for name in self.names]
        steps = [(one.picture, f"{one.label} {one.number}/{one.of}") for one in shown.steps]
        heat = [shown.heat] * len(self.heat)
        return [*pictures, *heat, self.compared(before, after, *pictures), written(shown), steps]

    def compared(self, before: str, after: str, *pictures: Image.Image | str | None) -> tuple[Any, Any] | None:
        """Two of the pictures, for the slider."""
        one, other = (pictures[self.names.index(name)] for name in (before, after))
        return None if one is None or other is None else (one, other)


SIDES: Mapping[int, str] = {0: "before", -1: "after"}


def _picture(label: str) -> gr.Image:
    buttons: Any = ["download", "fullscreen"]
    return gr.Image(label=label, interactive=False, elem_classes="picture", min_width=180, buttons=buttons, **AS_FILES)


def written(shown: Shown) -> str:
    """The scores, and what the VLM reads in the pictures, as Markdown."""
    read = "\n".join(f"- {label}: {caption}" for label, caption in shown.captions.items())
    return f"{shown.table()}\n\n{'What the VLM reads in them:' if read else ''}\n\n{read}"
