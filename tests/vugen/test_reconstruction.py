"""The autoencoder among the decoders of tokens; and what a folder of each kind is loaded as."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from detokenizers.protocols import Grid
from detokenizers.vugen import KINDS
from detokenizers.vugen.model import VUGEN
from detokenizers.vugen.reconstruction import Reconstruction

from ..pretrained.tiny import tiny_vlm
from .tiny import AUTOENCODER, autoencoder, feature_vlm, pictures, vugen


def test_a_reconstruction_is_encode_and_decode():
    built = autoencoder(feature_vlm())
    decoder, tokenizer = Reconstruction(built), tiny_vlm().tokenizer
    tokens = decoder.read(pictures(), tokenizer)
    assert torch.equal(tokens.ids, tokenizer.tokens(tokenizer.features(pictures())))
    expected = built.decode(built.encode(pictures()), seeds=range(8))
    assert torch.equal(decoder(tokens), expected)
    assert torch.equal(decoder(tokens, seeds=range(8), steps=2), expected)
    assert (decoder.steps, dict(decoder.observers), decoder.needs) == (2, {}, {"understanding"})
    assert decoder.fingerprint() == built.fingerprint()


def test_drawn_tokens_and_other_rasters_are_refused():
    decoder, tokenizer = Reconstruction(autoencoder(feature_vlm())), tiny_vlm().tokenizer
    with pytest.raises(ValueError, match="come without understanding"):
        decoder(replace(decoder.read(pictures(), tokenizer), observed={}))
    tokenizer.grid = Grid(2, 2)
    with pytest.raises(ValueError, match="on a 2x2 grid, the features of this autoencoder on one of 4x4"):
        decoder.require(tokenizer)


def test_folders_are_loaded_by_their_kind(embedded, tmp_path):
    from detokenizers.pretrained.vlm.load_features import load_feature_vlm

    model = vugen(load_feature_vlm("mini"))
    model.config = model.config.vary(vlm="mini")
    model.target.config = AUTOENCODER.vary(vlm="mini")
    model.save(tmp_path)
    loaded = {
        kind: KINDS[kind](folder) for kind, folder in (("vugen", tmp_path), ("vugen_autoencoder", tmp_path / "target"))
    }
    assert isinstance(loaded["vugen"], VUGEN)
    assert isinstance(loaded["vugen_autoencoder"], Reconstruction)
    assert torch.equal(loaded["vugen"](["a dog"], seeds=[0]), model(["a dog"], seeds=[0]))
