"""Which licences the parts of a model have, as far as they are known here; nobody's licence is guessed.

name of a part -licence_of-> Licence ; parts -together-> the one that a model made of them has
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Licence(NamedTuple):
    """As the Hub's metadata has it: `id` is `other` for licences without an SPDX name, which then need name and link."""

    id: str
    name: str
    link: str = ""
    binds: bool = False
    """Whether it sets terms for what is made from the part."""


UNKNOWN = Licence("unknown", "not known here; ask who published it", binds=True)
SEVERAL = Licence("other", "several-licences-listed-in-the-card", binds=True)
MIT, APACHE = Licence("mit", "MIT"), Licence("apache-2.0", "Apache-2.0")
FLUX = "https://huggingface.co/black-forest-labs/FLUX.1-Fill-dev/blob/main/LICENSE.md"
JANUS = "https://github.com/deepseek-ai/DeepSeek-LLM/blob/HEAD/LICENSE-MODEL"
SD3 = "https://huggingface.co/stabilityai/stable-diffusion-3-medium/blob/main/LICENSE.md"
KNOWN = {
    "mini/": MIT,
    "black-forest-labs/FLUX.1-schnell": APACHE,
    "black-forest-labs/FLUX.1-": Licence("other", "flux-1-dev-non-commercial-license", FLUX, binds=True),
    "deepseek-community/Janus-": Licence("other", "deepseek-model-license", JANUS, binds=True),
    "deepseek-ai/Janus-": Licence("other", "deepseek-model-license", JANUS, binds=True),
    "llamagen-": MIT,
    "stabilityai/sd-vae-ft-mse": MIT,
    "stabilityai/stable-diffusion-3-medium": Licence("other", "stabilityai-ai-community", SD3, binds=True),
}
"""By the beginning of a name; the first that fits counts."""


def licence_of(name: str) -> Licence:
    """The licence of a part; `UNKNOWN` for what is not listed."""
    return next((one for start, one in KNOWN.items() if f"{name}/".startswith(start)), UNKNOWN)


def together(licences: Iterable[Licence]) -> Licence:
    """The licence of a model with these parts: MIT where none sets terms, else the terms of the one or of all that do."""
    binding = {one for one in licences if one.binds}
    if UNKNOWN in binding:
        return UNKNOWN
    return SEVERAL if len(binding) > 1 else next(iter(binding), MIT)
