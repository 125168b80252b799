"""The decoder from tokens to images, and what a run folder keeps of it."""

import pytest
import torch

from detokenizers import papers
from detokenizers.checkpoint import load_tensors, save_tensors
from detokenizers.dcdd.calibration import Calibration
from detokenizers.dcdd.condition import OnTokens
from detokenizers.dcdd.lcdm import Committed, Expectation, HardCodes
from detokenizers.dcdd.model import DCDD, DCDDConfig
from detokenizers.pretrained.flux.inputs import EmptyPrompt
from detokenizers.pretrained.flux.scope import Attention, LoRA
from detokenizers.pretrained.flux.transformer import PretrainedFlux
from detokenizers.protocols import VisualTokens

from . import tiny

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(5)) * 2 - 1


@pytest.fixture
def settings(tmp_path) -> DCDDConfig:
    return tiny.config(tmp_path / "vae").vary(calibration=Calibration(kappa=20.0))


@pytest.fixture
def dcdd(settings) -> DCDD:
    return tiny.build(settings).eval()


def generated(dcdd: DCDD, batch: int = 2) -> VisualTokens:
    """Tokens as a VLM's loop leaves them: observed step by step."""
    draw = torch.Generator().manual_seed(6)
    logits = 4 * torch.randn(batch, 16, tiny.NUM_CODES, generator=draw)
    ids = logits.softmax(-1).flatten(0, 1).multinomial(1, generator=draw).view(batch, 16)
    observed = {
        name: torch.stack([observe(logits[:, i], ids[:, i]) for i in range(16)], 1)
        for name, observe in dcdd.observers.items()
    }
    return VisualTokens(ids, tiny.GRID, observed)


def test_observed_tokens_become_images(dcdd):
    images = dcdd(generated(dcdd), steps=2, seeds=[3, 4])
    assert images.shape == (2, 3, 32, 32)
    assert images.abs().max() <= 1
    assert not images.requires_grad


def test_what_is_observed_is_the_calibrated_distribution_of_the_vlm(settings):
    smoothed = tiny.build(settings.vary({"calibration.epsilon": 0.3, "calibration.tau": 0.5}))
    logits = 4 * torch.randn(3, tiny.NUM_CODES, generator=torch.Generator().manual_seed(6))
    p = 0.7 * (logits / 0.5).softmax(-1) + 0.3 / tiny.NUM_CODES
    observed = smoothed.observer(logits, torch.zeros(3, dtype=torch.long))
    torch.testing.assert_close(observed, Expectation()(p, p.argmax(-1), tiny.codebook()))


def test_the_same_seeds_give_the_same_images_and_the_default_seeds_count_up(dcdd):
    tokens = generated(dcdd)
    images = dcdd(tokens, steps=2, seeds=[0, 1])
    assert torch.equal(dcdd(tokens, steps=2), images)
    torch.testing.assert_close(dcdd(tokens[1:2], steps=2, seeds=[1]), images[1:2], atol=1e-5, rtol=0)


def test_it_takes_its_own_steps_unless_a_caller_gives_others(settings):
    hasty = tiny.build(settings.vary({"steps": 1})).eval()
    tokens = generated(hasty)
    assert torch.equal(hasty(tokens), hasty(tokens, steps=1))
    assert not torch.allclose(hasty(tokens), hasty(tokens, steps=2), atol=1e-4)


def test_the_condition_changes_the_image(dcdd):
    tokens = generated(dcdd)
    swapped = VisualTokens(tokens.ids, tokens.grid, {name: x.flip(0) for name, x in tokens.observed.items()})
    assert not torch.allclose(dcdd(tokens, steps=2), dcdd(swapped, steps=2), atol=1e-4)


def test_an_image_is_read_into_tokens_with_calibrated_distributions(dcdd):
    tokenizer = tiny.Tokenizer()
    tokens = dcdd.read(IMAGES, tokenizer)
    features = tokenizer.features(IMAGES)
    p = torch.softmax(20 * features @ tiny.codebook().T, -1)
    observed = tokens.observed[dcdd.observation]
    torch.testing.assert_close(observed[..., :8], p @ tiny.codebook(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(observed[..., 8], p.amax(-1), atol=1e-5, rtol=1e-4)
    assert torch.equal(tokens.ids, p.argmax(-1))
    assert dcdd(tokens, steps=1).shape == IMAGES.shape


@pytest.mark.parametrize("lcdm", [HardCodes(), Committed()])
def test_any_lcdm_plugs_in(settings, lcdm):
    dcdd = tiny.build(settings.vary(lcdm=lcdm))
    assert dcdd(generated(dcdd), steps=1).shape == (2, 3, 32, 32)


def test_hard_codes_do_not_feel_the_calibration(settings):
    features = tiny.Tokenizer().features(IMAGES)
    rows = [
        tiny.build(settings.vary({"lcdm": HardCodes(), "calibration.kappa": kappa})).proxy(features)
        for kappa in (1.0, 40.0)
    ]
    assert torch.equal(*rows)


def test_the_token_grid_variant_draws_too(settings):
    dcdd = tiny.build(settings.vary({"condition.grid": OnTokens()}))
    assert dcdd.condition(generated(dcdd)).shape == (2, 20, 4, 4)
    assert dcdd(generated(dcdd), steps=1).shape == (2, 3, 32, 32)


def test_tokens_without_observations_are_refused_with_the_way_out(dcdd):
    plain = VisualTokens(torch.zeros(1, 16, dtype=torch.long), tiny.GRID)
    with pytest.raises(ValueError, match=r"observe=dcdd\.observers"):
        dcdd(plain)


def test_tokens_observed_by_another_lcdm_are_refused(dcdd, settings):
    other = tiny.build(settings.vary(lcdm=Committed()))
    with pytest.raises(ValueError, match=f"these tokens have {other.observation}, not {dcdd.observation}; generate"):
        dcdd(generated(other))


def test_net_and_space_must_fit(settings):
    with pytest.raises(ValueError, match="net draws 4 channels at stride 8, but the space has 4 at stride 4"):
        settings.vary({"net.stride": 8}).build(tiny.codebook())
    with pytest.raises(ValueError, match="unit"):
        settings.build(2 * tiny.codebook())


def test_a_saved_decoder_draws_the_same_images_without_the_folders_it_was_built_from(dcdd, tmp_path):
    tokens = generated(dcdd)
    dcdd.save(tmp_path / "run")
    for file in (tmp_path / "vae").iterdir():
        file.unlink()
    again = DCDD.load(tmp_path / "run")
    weights = dcdd.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in again.state_dict().items())
    torch.testing.assert_close(again(tokens, steps=2), dcdd(tokens, steps=2), atol=1e-5, rtol=0)
    assert again.calibration == dcdd.calibration
    assert not any(p.requires_grad for p in again.parameters())
    assert torch.equal(again.observer.codebook, tiny.codebook())


def test_a_folder_of_before_is_read_and_a_new_one_begins_with_its_kind(dcdd, tmp_path):
    """Before, decoder.yaml was dcdd.yaml without a kind, `lcdm` was `reading`, and its `uncertainty` was `lcdm`."""
    dcdd.save(tmp_path / "run")
    new = tmp_path / "run" / "decoder.yaml"
    text = new.read_text()
    assert text.startswith("kind: dcdd\nlcdm:\n  name: expectation\n  uncertainty:\n")
    new.with_name("dcdd.yaml").write_text(
        text.replace("kind: dcdd\nlcdm:\n", "reading:\n", 1).replace("  uncertainty:\n", "  lcdm:\n", 1)
    )
    new.unlink()
    old = papers.load(tmp_path / "run")
    assert old.config.vary(space=dcdd.config.space) == dcdd.config
    assert old.observation == dcdd.observation


def test_a_folder_of_another_kind_is_refused(tmp_path):
    (tmp_path / "decoder.yaml").write_text("kind: madit-9\n")
    with pytest.raises(ValueError, match="of kind 'madit-9'; this version knows dcdd, "):
        papers.load(tmp_path)
    (tmp_path / "decoder.yaml").write_text("steps: 3\n")
    with pytest.raises(ValueError, match="names no kind; its first line should read like `kind: dcdd`"):
        papers.load(tmp_path)
    (tmp_path / "decoder.yaml").unlink()
    with pytest.raises(ValueError, match=r"holds no decoder \(decoder.yaml is missing\)"):
        papers.load(tmp_path)


def test_observations_have_one_name_for_one_meaning(dcdd, settings):
    """The encoder's sharpness is no part of it; LCDM, the VLM's side of the calibration and the codebook are."""
    sharper = tiny.build(settings.vary({"calibration.kappa": 40.0}))
    assert sharper.observation == dcdd.observation
    others = [
        tiny.build(settings.vary({"calibration.epsilon": 0.1})),
        tiny.build(settings.vary({"lcdm.uncertainty.k_tail": 5})),
        tiny.build(settings.vary(lcdm=Committed())),
    ]
    assert len({dcdd.observation, *(other.observation for other in others)}) == 4
    assert dcdd.needs == dcdd.observers.keys() == {dcdd.observation}


def test_half_size_weights_draw_nearly_the_same(dcdd, tmp_path):
    tokens = generated(dcdd)
    dcdd.save(tmp_path / "run", dtype=torch.float16)
    assert load_tensors(tmp_path / "run" / "decoder.safetensors")["encoder.fc.weight"].dtype == torch.float16
    torch.testing.assert_close(DCDD.load(tmp_path / "run")(tokens, steps=2), dcdd(tokens, steps=2), atol=0.02, rtol=0)


@pytest.fixture
def released(settings, tmp_path) -> DCDDConfig:
    """Settings over "released" weights in a folder, with an empty prompt of its own."""
    torch.manual_seed(1)
    transformer = tiny.FLUX.build(80, lambda images: images).transformer
    transformer.set_submodule("x_embedder", transformer.x_embedder.base)
    transformer.save_pretrained(tmp_path / "fill" / "transformer")
    save_tensors(tmp_path / "empty.safetensors", {"text": torch.ones(2, 16), "pooled": torch.ones(16)})
    empty = EmptyPrompt(source=str(tmp_path / "empty.safetensors"), num_tokens=2)
    net = PretrainedFlux(name=str(tmp_path / "fill"), dtype="float32", guidance=None, text=empty)
    return settings.vary(net=net, scope=Attention())


@pytest.mark.parametrize("scope", [Attention(), LoRA(rank=2, alpha=2)])
def test_over_released_weights_only_what_learned_is_saved(released, scope, tmp_path):
    dcdd = tiny.build(released.vary(scope=scope))
    with torch.no_grad():
        for parameter in dcdd.parameters():
            if parameter.requires_grad:
                parameter.add_(0.01)
    tokens = generated(dcdd)
    dcdd.save(tmp_path / "run")
    (tmp_path / "empty.safetensors").unlink()
    names = load_tensors(tmp_path / "run" / "decoder.safetensors").keys()
    assert not any("proj_out" in name or "time_text" in name or ".space." in name for name in names)
    assert any(".attn." in name for name in names)
    again = DCDD.load(tmp_path / "run")
    assert isinstance(again.config.net.text, EmptyPrompt)
    torch.testing.assert_close(again(tokens, steps=1), dcdd(tokens, steps=1), atol=1e-5, rtol=0)


def test_a_bf16_base_trains_in_mixed_precision_and_loads_wholly_in_bf16(released, tmp_path):
    dcdd = tiny.build(released.vary({"net.dtype": "bfloat16"}))
    tokens = generated(dcdd)
    dcdd.save(tmp_path / "run")
    again = DCDD.load(tmp_path / "run")
    assert {p.dtype for p in again.decoder.net.parameters()} == {torch.bfloat16}
    torch.testing.assert_close(again(tokens, steps=1), dcdd(tokens, steps=1), atol=0.05, rtol=0)


def test_weights_of_another_config_are_refused(dcdd, tmp_path):
    dcdd.save(tmp_path / "run")
    text = (tmp_path / "run" / "decoder.yaml").read_text().replace("width: 16", "width: 32")
    (tmp_path / "run" / "decoder.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"decoder.safetensors does not fit a DCDD: "):
        DCDD.load(tmp_path / "run")
    dcdd.save(tmp_path / "run")
    whole = load_tensors(tmp_path / "run" / "decoder.safetensors")
    hole = {name: tensor for name, tensor in whole.items() if name != "encoder.fc.bias"}
    for name, tensors in (("missing encoder.fc.bias", hole), ("unknown foreign", whole | {"foreign": torch.zeros(1)})):
        save_tensors(tmp_path / "run" / "decoder.safetensors", tensors)
        with pytest.raises(ValueError, match=rf"does not fit a DCDD: {name} \(1 in all\)"):
            DCDD.load(tmp_path / "run")
    with pytest.raises(ValueError, match="there is no config file"):
        DCDD.load(tmp_path / "nowhere")


def test_a_decoder_that_takes_no_steps_is_refused(settings):
    with pytest.raises(ValueError, match="steps"):
        settings.vary({"steps": 0})


def test_settings_survive_their_yaml(settings, tmp_path):
    for changed in (
        settings,
        settings.vary(lcdm=HardCodes(), scope=LoRA(rank=4)),
        DCDDConfig(lcdm=Expectation()),
    ):
        (tmp_path / "c.yaml").write_text(changed.to_yaml())
        assert DCDDConfig.from_yaml(tmp_path / "c.yaml") == changed
