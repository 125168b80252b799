"""Random models of real shapes, built on the device they run on: speed does not ask what the weights know.

"tiny" | "mini" | "1b" | "7b" -vlm_at-> JanusVLM ; "tiny" | "12b" -decoder_at-> DCDD
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F

from detokenizers.dcdd.condition import CondConfig, CondEncoder
from detokenizers.dcdd.model import DCDD, DCDDConfig
from detokenizers.decoder import FlowDecoder
from detokenizers.pretrained.flux.inputs import NoText, ZeroText
from detokenizers.pretrained.flux.transformer import FluxConfig
from detokenizers.pretrained.spaces import VAE, VAEConfig, build_vae
from detokenizers.pretrained.vlm.janus import JanusVLM
from detokenizers.pretrained.vlm.janus_size import JANUS_PRO_1B, JANUS_PRO_7B, JanusSize, build_janus
from detokenizers.pretrained.vlm.word_tokenizer import word_tokenizer

WORDS = [f"word{number}" for number in range(1200)]
PROMPT = " ".join(WORDS[:10])
"""With BOS and BOI, 12 tokens."""
JANUS = {
    "tiny": JanusSize(
        hidden=32, layers=2, heads=2, vocabulary=1300, image_size=16, grid=4, codebook=64, vq_channels=32,
        vq_multipliers=(1, 1, 1), vq_blocks=1, vq_latent=32, vision_hidden=32, vision_layers=1, vision_heads=2,
    ),
    "mini": JanusSize(
        hidden=256, layers=6, heads=8, vocabulary=1300, image_size=64, grid=8, codebook=1024, vq_channels=32,
        vq_multipliers=(1, 1, 2, 2), vq_blocks=1, vision_hidden=128, vision_layers=2, vision_heads=4,
    ),
    "1b": JANUS_PRO_1B,
    "7b": JANUS_PRO_7B,
}  # fmt: skip
FLUX = {
    "tiny": FluxConfig(
        layers=1, single_layers=2, heads=2, head_dim=16, axes=(4, 4, 8), text_dim=32, pooled_dim=32,
        latent_channels=4, stride=2,
    ),
    "12b": FluxConfig(),
}  # fmt: skip
VAES = {
    "tiny": VAEConfig(channels=4, block_channels=(8, 8), norm_groups=4),
    "12b": VAEConfig(channels=16, block_channels=(128, 256, 512, 512), layers_per_block=2, mid_attention=True),
}
PIXELS = {"tiny": 16, "12b": 384}
STRIDE = {"tiny": 4, "12b": 16}
"""Pixels per VLM token."""


@contextmanager
def made_on(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Weights made inside are made there and so; 24 GB never pass through the host."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            yield
    finally:
        torch.set_default_dtype(before)


def vlm_at(shape: str, device: torch.device, dtype: torch.dtype) -> JanusVLM:
    torch.manual_seed(0)
    words = word_tokenizer(WORDS)
    with made_on(device, dtype):
        model = build_janus(JANUS[shape], words)
    return JanusVLM(model, words)


def decoder_at(
    shape: str, device: torch.device, dtype: torch.dtype, *, text: int, codebook: torch.Tensor, learns: bool = False
) -> DCDD:
    """A DCDD decoder over a random Fill transformer and FLUX's kind of VAE.

    Args:
        text: null-text tokens the transformer reads; 0 for none.
        codebook: of the VLM whose tokens are drawn.
        learns: whether the attention scope is made to learn, in fp32; else all is frozen, in `dtype`.
    """
    torch.manual_seed(0)
    text_tokens = NoText() if text == 0 else ZeroText(num_tokens=text)
    width = {"tiny": CondConfig(width=8, groups=4), "12b": CondConfig()}[shape]
    config = DCDDConfig(net=FLUX[shape].vary({"text": text_tokens}), condition=width, token_stride=STRIDE[shape])
    with made_on(device, dtype):
        space = VAE(build_vae(VAES[shape]))
        d = codebook.shape[1]
        encoder = CondEncoder(config.condition, config.lcdm.num_features(d), d)
        net = FLUX[shape].vary({"text": text_tokens}).build(encoder.channels_per_token, space.encode)
    dcdd = DCDD(codebook.to(device), encoder, FlowDecoder(space, net), token_stride=STRIDE[shape])
    encoder.float()
    if not learns:
        return dcdd.requires_grad_(False).eval()
    net.learn(config.scope)
    return dcdd


def unit_codes(count: int, device: torch.device) -> torch.Tensor:
    return F.normalize(torch.randn(count, 8, generator=torch.Generator().manual_seed(0)), dim=-1).to(device)
