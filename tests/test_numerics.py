"""Half precision against full, module by module, on every device there is; and what becomes of a NaN.

Errors are ||half - full|| / ||full|| on random weights. bf16 keeps 8 bits, so a single rounding is 0.2-0.4 %; each
bound leaves room for depth, not for another formula. The same tests run at tiny size on the CPU and on a GPU if there
is one.
"""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from detokenizers.dcdd.calibration import Calibration, Observer
from detokenizers.dcdd.lcdm import Expectation
from detokenizers.dcdd.model import DCDD
from detokenizers.pretrained.vlm.janus import cast
from detokenizers.pretrained.vlm.llama_blocks import LlamaBlocks
from detokenizers.protocols import Grid, VisualTokens
from tests.pretrained.tiny import SOFTMAX, tiny_janus, tiny_vlm

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
ON_ALL = pytest.mark.parametrize("device", DEVICES)
HALF = torch.bfloat16


def distance(half: torch.Tensor, full: torch.Tensor) -> float:
    return float((half.double() - full.double()).norm() / full.double().norm())


@pytest.fixture
def dcdd(embedded) -> DCDD:
    return DCDD.load(embedded / "mini" / "dcdd")


def observed(count: int, features: int, device: str) -> torch.Tensor:
    return torch.rand(count, 16, features, generator=torch.Generator().manual_seed(0)).to(device)


@ON_ALL
def test_the_blocks_of_the_vlm(device):
    full = tiny_janus(seed=3).model.language_model.to(device)
    half = copy.deepcopy(full).to(HALF)
    x = torch.randn(2, 9, 32, device=device)
    with torch.no_grad():
        outs = [LlamaBlocks(net)(x.to(d), LlamaBlocks(net).angles(9)) for net, d in ((half, HALF), (full, x.dtype))]
    assert 0 < distance(*outs) < 0.03


@ON_ALL
def test_guided_distributions_of_a_half_precision_vlm_whose_head_is_not(device):
    full, half = tiny_vlm().to(device), tiny_vlm().to(device)
    cast(half.model, HALF)
    ids = torch.randint(64, (1, 16), device=device)
    found = [vlm.teacher_forced(["a red dog"], ids, observe=SOFTMAX).observed["p"] for vlm in (half, full)]
    assert found[0].dtype == torch.float32
    assert float((found[0] - found[1]).abs().sum(-1).mean()) < 0.3  # guidance of 5 multiplies rounding by up to 9


@ON_ALL
def test_lcdm_of_half_precision_logits_is_that_of_the_same_numbers_in_full(device):
    codes = F.normalize(torch.randn(64, 8, device=device), dim=-1)
    observe = Observer(Expectation(), codes, Calibration(epsilon=0.01))
    logits = (3 * torch.randn(5, 64, device=device)).to(HALF)
    ids = logits.argmax(-1)
    torch.testing.assert_close(observe(logits, ids), observe(logits.float(), ids))
    assert observe(logits, ids).dtype == torch.float32


@ON_ALL
def test_the_condition_encoder(device, dcdd):
    full = dcdd.encoder.to(device)
    half = copy.deepcopy(full).to(HALF)
    rows = observed(2, 12, device)
    assert 0 < distance(half(rows.to(HALF), Grid(4, 4), (8, 8)), full(rows, Grid(4, 4), (8, 8))) < 0.02


@ON_ALL
def test_the_velocity_of_the_transformer(device, dcdd):
    full = dcdd.decoder.net.to(device)
    half = copy.deepcopy(full)
    half.transformer.to(HALF)
    noisy, t = torch.randn(2, 4, 8, 8, device=device), torch.tensor([0.25, 0.75], device=device)
    condition = dcdd.encoder.to(device)(observed(2, 12, device), Grid(4, 4), (8, 8))
    # FLUX also multiplies time and guidance by 1000 in its own dtype, before their sines: 30000 becomes 29952.
    assert 0 < distance(half(noisy, t, condition), full(noisy, t, condition)) < 0.12


@ON_ALL
def test_the_latent_space_both_ways(device, dcdd):
    full = dcdd.decoder.space.to(device)
    half = copy.deepcopy(full)
    half.autoencoder.to(HALF)
    images = torch.rand(2, 3, 16, 16, device=device) * 2 - 1
    latents = full.encode(images)
    assert 0 < distance(half.encode(images), latents) < 0.05
    assert 0 < distance(half.decode(latents), full.decode(latents)) < 0.05


@ON_ALL
def test_the_pixels_of_the_vq_decoder(device):
    vq = tiny_vlm().tokenizer.to(device)
    half = copy.deepcopy(vq.model).to(HALF)
    codes = vq.codebook[torch.randint(64, (2, 16), device=device)]
    z = codes.unflatten(1, (4, 4)).permute(0, 3, 1, 2)
    with torch.no_grad():
        outs = [net.decoder(net.post_quant_conv(z.to(d))) for net, d in ((half, HALF), (vq.model, z.dtype))]
    assert 0 < distance(*outs) < 0.06


@ON_ALL
@pytest.mark.parametrize("compiled", [False, True])
def test_logits_that_become_nan_on_the_way_are_one_clear_error(device, compiled):
    vlm = tiny_vlm().to(device)
    if compiled:
        vlm.loop.compiled = vlm.loop.static_step

    def damage(done, _):
        if done == 5:  # from here on every embedding of a drawn token is damaged
            vlm.model.model.generation_embeddings.weight.data.fill_(float("nan"))

    observe = Observer(Expectation(), vlm.tokenizer.codebook)
    with pytest.raises(ValueError, match="logits are not finite in float32"):
        vlm.generate(["a red dog"], seeds=[0], observe={"lcdm": observe}, progress=damage)


@ON_ALL
@pytest.mark.parametrize("where", ["observed", "weights"])
def test_nan_observations_or_weights_never_become_a_picture(device, dcdd, where):
    dcdd = dcdd.to(device)
    rows = observed(1, 12, device)
    if where == "observed":
        rows[0, 3, 2] = float("nan")
    else:
        dcdd.decoder.net.transformer.proj_out.weight.data[0, 0] = float("nan")
    ids = torch.zeros(1, 16, dtype=torch.long, device=device)
    with pytest.raises(ValueError, match="not finite"):
        dcdd(VisualTokens(ids, Grid(4, 4), {dcdd.observation: rows}), steps=2)
