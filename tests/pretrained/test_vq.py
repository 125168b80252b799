"""The visual tokenizer: unit codes, own tokens, continuous decode."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers import JanusVQVAE

from detokenizers.pretrained.vlm.janus_size import janus_config
from detokenizers.pretrained.vq import JanusVQ
from detokenizers.protocols import Grid, VisualTokenizer
from tests.pictures import FLAT_AND_TEXTURED
from tests.pretrained.tiny import TINY, spread_norms


def tiny_vq(seed: int = 0) -> JanusVQVAE:
    torch.manual_seed(seed)
    config: Any = janus_config(TINY).vq_config
    model = JanusVQVAE(config)
    # Spread the features over the sphere, so that many codes are used.
    torch.nn.init.normal_(model.quant_conv.weight, std=1.0)
    torch.nn.init.normal_(model.quantize.embedding.weight)
    return model


@pytest.fixture(scope="module")
def vq() -> JanusVQ:
    return JanusVQ(tiny_vq())


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_it_is_a_visual_tokenizer_with_unit_fp32_codes(vq):
    assert (vq.grid, vq.image_size) == (Grid(4, 4), 16)
    assert vq.codebook.dtype == torch.float32
    torch.testing.assert_close(vq.codebook.norm(dim=-1), torch.ones(64))
    assert not any(weight.requires_grad for weight in vq.parameters())
    assert not vq.model.training
    assert isinstance(vq, VisualTokenizer)


def test_features_are_unit_vectors_in_raster_order(vq, images):
    features = vq.features(images)
    raw = vq.model.quant_conv(vq.model.encoder(images.clone()))
    assert features.shape == (4, 16, 8)
    torch.testing.assert_close(features[:, 6], F.normalize(raw[:, :, 1, 2], dim=-1), atol=1e-5, rtol=1e-4)


def test_tokens_do_not_depend_on_the_norm_of_stored_rows(vq, images):
    scaled = tiny_vq()
    with torch.no_grad():
        scaled.quantize.embedding.weight *= torch.empty(64, 1).uniform_(0.5, 2.5)
    ours = JanusVQ(scaled)
    ids = vq.tokens(vq.features(images))
    assert torch.equal(ours.tokens(ours.features(images)), ids)
    assert ids.unique().numel() > 8
    theirs: Any = scaled
    assert not torch.equal(theirs.encode(images).image_tokens.view(4, 16), ids), "transformers compares raw vectors"
    with torch.no_grad():
        scaled.quantize.embedding.weight.copy_(ours.codebook)
    assert torch.equal(theirs.encode(images).image_tokens.view(4, 16), ids)


def test_non_unit_rows_are_logged(caplog):
    with caplog.at_level("INFO"):
        JanusVQ(tiny_vq())
    assert "norms" in caplog.text


def test_decoding_ids_is_what_transformers_decodes(vq, images):
    ids = vq.tokens(vq.features(images))
    theirs = vq.model.decode(ids).clamp(-1, 1)
    torch.testing.assert_close(vq.decode(vq.codebook[ids]), theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("picture", FLAT_AND_TEXTURED, ids=FLAT_AND_TEXTURED.keys())
def test_features_and_pictures_are_those_of_transformers_flat_or_textured(picture):
    theirs = spread_norms(JanusVQVAE(janus_config(TINY.vary(image_size=64, grid=16)).vq_config)).eval()
    ours, images = JanusVQ(deepcopy(theirs)), FLAT_AND_TEXTURED[picture](64)
    with torch.no_grad():
        raw = theirs.quant_conv(theirs.encoder(images))
    features = F.normalize(raw.flatten(2).mT, dim=-1)
    torch.testing.assert_close(ours.features(images), features, atol=1e-4, rtol=0)
    for codes in (features, features[:, :1].expand_as(features)):
        plane = codes.mT.unflatten(2, (16, 16)).contiguous()
        with torch.no_grad():
            drawn = theirs.decoder(theirs.post_quant_conv(plane)).clamp(-1, 1)
        torch.testing.assert_close(ours.decode(codes), drawn, atol=1e-4, rtol=0)


def test_decoding_is_continuous_in_the_codes_and_stays_in_range(vq):
    codes = F.normalize(torch.randn(1, 16, 8), dim=-1)
    near = vq.decode(codes + 1e-5)
    assert near.abs().max() <= 1
    assert 0 < (near - vq.decode(codes)).abs().max() < 1e-2


def test_one_by_one_equals_together(vq, images):
    torch.testing.assert_close(
        torch.cat([vq.features(one[None]) for one in images]), vq.features(images), atol=1e-5, rtol=1e-4
    )


def test_tokens_are_the_same_in_chunks(vq, images, monkeypatch):
    features = vq.features(images)
    whole = vq.tokens(features)
    monkeypatch.setattr("detokenizers.nn.codebook.CHUNK_ROWS", 5)
    assert torch.equal(vq.tokens(features), whole)


def test_casting_the_module_keeps_the_codebook_fp32(images):
    vq = JanusVQ(tiny_vq()).to(torch.bfloat16)
    assert vq.codebook.dtype == torch.float32
    torch.testing.assert_close(vq.codebook.norm(dim=-1), torch.ones(64))
    assert vq.features(images).dtype == torch.float32


def test_wrong_sizes_are_refused_in_one_line(vq):
    with pytest.raises(ValueError, match=r"reads \[b 3 16 16\] images, not \[1, 3, 32, 32\]"):
        vq.features(torch.zeros(1, 3, 32, 32))
    with pytest.raises(ValueError, match=r"decodes \[b 16 8\] codes"):
        vq.decode(torch.zeros(1, 9, 8))


def test_a_damaged_codebook_is_refused():
    model = tiny_vq()
    with torch.no_grad():
        model.quantize.embedding.weight[3] = torch.nan
    with pytest.raises(ValueError, match="damaged"):
        JanusVQ(model)
