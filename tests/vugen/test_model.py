"""Prompts to images; and understanding, which stays what it was to the bit."""

from __future__ import annotations

import hashlib
from functools import partial

import pytest
import torch

from detokenizers.flow import FixedShift, LogitNormal
from detokenizers.pretrained.spaces import PretrainedVAE, VAEConfig, build_vae, save_vae
from detokenizers.pretrained.vlm.feature_vlm import TappedVLM
from detokenizers.pretrained.vlm.janus import JanusVLM
from detokenizers.pretrained.vlm.load_features import drawn_from
from detokenizers.training import Job, TrainConfig, train
from detokenizers.vugen.model import VUGEN
from detokenizers.vugen.objectives import TowerObjective
from detokenizers.vugen.targets import Latents

from ..pretrained.tiny import tiny_vlm
from .tiny import PROMPTS, feature_vlm, latents, pictures, vugen


def test_every_image_depends_on_its_own_prompt_and_seed_alone():
    model = vugen(feature_vlm())
    together = model([*PROMPTS, "dog"], seeds=[5, 6, 7])
    assert together.shape == (3, 3, 16, 16)
    assert together.abs().max() <= 1
    assert torch.allclose(model(PROMPTS[1:], seeds=[6]), together[1:2], atol=1e-4)
    assert torch.allclose(model([*PROMPTS, "dog"], seeds=[5, 6, 7], batch_size=2), together, atol=1e-4)
    assert not torch.allclose(model(PROMPTS[1:], seeds=[8]), together[1:2], atol=1e-2)
    assert torch.equal(model([*PROMPTS, "dog"], seeds=[5, 6, 7]), together)
    assert model([], seeds=[]).shape == (0, 3, 16, 16)


def test_prompts_guidance_and_steps_decide_the_latents():
    model = vugen(feature_vlm())
    base = model.latents(["a red apple"], seeds=[0])
    assert not torch.allclose(model.latents(["two green dog"], seeds=[0]), base, atol=1e-3)
    assert torch.equal(model.latents(["a red apple"], seeds=[0], guidance=2.0, steps=3), base)
    assert not torch.allclose(model.latents(["a red apple"], seeds=[0], guidance=1.0), base, atol=1e-3)
    assert not torch.allclose(model.latents(["a red apple"], seeds=[0], steps=4), base, atol=1e-3)


def test_latents_and_pixels_do_not_start_from_the_same_noise():
    model, kept = vugen(feature_vlm()), []
    model.target.net.register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0]))
    model.tower.register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0]))
    model(["dog"], seeds=[0])
    first_latents, first_pixels = kept[0].flatten(), next(x for x in kept if x.ndim == 4).flatten()
    assert not torch.equal(first_latents, first_pixels[: len(first_latents)])


def test_too_few_seeds_and_unknown_words_are_refused():
    model = vugen(feature_vlm())
    with pytest.raises(ValueError, match="2 images need as many seeds, got 1"):
        model(PROMPTS, seeds=[1])
    with pytest.raises(ValueError, match="does not know 'zebra'"):
        model(["a zebra"], seeds=[0])


def test_a_saved_model_draws_the_same(tmp_path):
    vlm = feature_vlm()
    model = vugen(vlm)
    model.save(tmp_path)
    loaded = VUGEN.load(tmp_path, vlm)
    assert torch.equal(loaded(PROMPTS, seeds=[0, 1]), model(PROMPTS, seeds=[0, 1]))
    assert loaded.fingerprint() == VUGEN.load(tmp_path, vlm).fingerprint()
    assert (tmp_path / "decoder.yaml").read_text().startswith("kind: vugen\n")
    assert {path.name for path in (tmp_path / "target").iterdir()} == {
        "decoder.yaml", "decoder.safetensors", "reducer.safetensors"
    }  # fmt: skip


def test_a_vlm_that_somebody_named_is_its_own_by_content_or_refused(tmp_path, monkeypatch):
    model = vugen(feature_vlm())
    model.require(model.config.vlm)
    with pytest.raises(ValueError, match=r"made for the VLM tiny, not for no/such/; leave --vlm out, or name it"):
        model.require("no/such/")
    monkeypatch.setattr("detokenizers.vugen.model.load_feature_vlm", lambda name, **settings: model.vlm)
    model.require("another/name/of/it")


def test_a_tower_of_another_vlm_is_refused(tmp_path):
    vugen(feature_vlm()).save(tmp_path)
    janus = tiny_vlm(seed=1)
    with pytest.raises(ValueError, match=r"the tower in .* was trained on another VLM"):
        VUGEN.load(tmp_path, TappedVLM(janus.model, janus.form.ids, 0))


def test_baselines_sample_a_vaes_latents_with_the_same_tower(tmp_path):
    save_vae(build_vae(VAEConfig(channels=1, block_channels=(8, 8), norm_groups=4)), tmp_path / "vae")
    vlm = feature_vlm()
    ours = vugen(vlm)
    target = Latents(space=PretrainedVAE(name=str(tmp_path / "vae")), size=16)
    baseline = ours.config.vary(target=target).build(vlm)
    shapes = {name: weight.shape for name, weight in ours.tower.named_parameters()}
    assert {name: weight.shape for name, weight in baseline.tower.named_parameters()} == shapes
    torch.nn.init.normal_(baseline.tower.out.weight, std=0.1)
    baseline.save(tmp_path / "run")
    (tmp_path / "vae" / "config.json").unlink()  # the folder of the run has all it needs
    loaded = VUGEN.load(tmp_path / "run", vlm)
    assert torch.equal(loaded(PROMPTS, seeds=[0, 1]), baseline(PROMPTS, seeds=[0, 1]))


def digest(module: torch.nn.Module) -> str:
    found = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        found.update(name.encode() + tensor.numpy().tobytes())
    return found.hexdigest()


def test_understanding_is_bit_identical_before_while_and_after_training(tmp_path):
    janus: JanusVLM = tiny_vlm()
    vlm = TappedVLM(janus.model, partial(drawn_from, janus.form), janus.form.tokenizer.pad_token_id)
    ids = torch.tensor([[janus.model.config.image_token_id] * 16 + [3, 4, 5]])
    keys, modes = list(janus.model.state_dict()), [module.training for module in janus.model.modules()]

    def understanding() -> tuple:
        with torch.no_grad():
            logits = janus.model(input_ids=ids, pixel_values=pictures(1)).logits
        return digest(janus.model), logits, janus.describe(pictures(2), max_tokens=8), vlm.features(pictures())

    def unchanged() -> bool:
        now = understanding()
        return now[0] == first[0] and now[2] == first[2] and all(torch.equal(now[i], first[i]) for i in (1, 3))

    first, seen = understanding(), []
    model = vugen(vlm)
    assert unchanged()
    objective = TowerObjective(model.tower, vlm.language_model, vlm.spell(""), LogitNormal(shift=FixedShift()))
    batch = {
        "latents": latents(2),
        "ids": torch.tensor([vlm.spell("a red apple")] * 2),
        "lengths": torch.tensor([5, 5]),
    }

    def batches(part: int, size: int) -> dict[str, torch.Tensor]:
        seen.append(unchanged())
        return dict(batch)

    train(Job(objective, batches, lambda *_: None), TrainConfig(steps=3, batch_size=2, lr=1e-2), tmp_path)
    model.train()
    model(PROMPTS, seeds=[0, 1])
    assert seen == [True, True, True]
    assert unchanged()
    assert list(janus.model.state_dict()) == keys
    assert [module.training for module in janus.model.modules()] == modes
    assert all(weight.grad is None and not weight.requires_grad for weight in janus.model.parameters())
    theirs = {id(weight) for weight in janus.model.parameters()}
    assert not any(id(weight) in theirs for weight in objective.parameters())
