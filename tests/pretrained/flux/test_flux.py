"""The Fill-shaped decoder: packing, fused conditioning, constants, what learns (spec F1, F2, F7-F9)."""

from copy import deepcopy

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxFillPipeline, FluxTransformer2DModel
from torch import nn

from detokenizers.checkpoint import save_tensors
from detokenizers.decoder import FlowDecoder
from detokenizers.flow.noise import noise
from detokenizers.pretrained.flux.inputs import (
    EmptyPrompt,
    NoText,
    ZeroFill,
    ZeroText,
    encode_empty_prompt,
    pack,
    pack_mask,
    unpack,
)
from detokenizers.pretrained.flux.scope import Attention, Full, LoRA, apply_scope
from detokenizers.pretrained.flux.transformer import (
    FillConstants,
    FluxConfig,
    FluxDecoder,
    FusedXEmbedder,
    PretrainedFlux,
)
from detokenizers.pretrained.spaces import VAE, VAEConfig, build_vae, set_statistics
from tests.pretrained.tiny import spread_norms

TINY = FluxConfig(layers=1, single_layers=1, heads=2, head_dim=16, axes=(4, 4, 8), text_dim=32, pooled_dim=32)
CONDITION = 5


def vae_decoder() -> FluxDecoder:
    torch.manual_seed(0)
    space = VAE(build_vae(VAEConfig(channels=4, block_channels=(8,) * 4, norm_groups=4)))
    return TINY.vary(latent_channels=4).build(20, space.encode)


def test_the_blank_picture_has_equal_latents_under_autocast_and_without():
    with torch.autocast("cpu", torch.bfloat16):
        trained_with, _, _ = vae_decoder().constants(4, 6, torch.device("cpu"))
    drawn_with, _, _ = vae_decoder().constants(4, 6, torch.device("cpu"))
    assert trained_with.dtype == torch.float32
    assert torch.equal(trained_with, drawn_with)


def blank(images: torch.Tensor) -> torch.Tensor:
    return torch.full((len(images), 16, images.shape[-2] // 8, images.shape[-1] // 8), 0.5)


def decoder(config: FluxConfig = TINY, condition_dim: int = 4 * CONDITION) -> FluxDecoder:
    torch.manual_seed(0)
    return config.build(condition_dim, blank)


def inputs(batch: int = 2, height: int = 4, width: int = 6) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    noisy = torch.randn(batch, 16, height, width, generator=draw)
    condition = torch.randn(batch, CONDITION, height, width, generator=draw)
    return noisy, torch.rand(batch, generator=draw), condition


def test_packing_folds_two_by_two_squares_channel_by_channel():
    latents = torch.arange(16.0 * 4 * 4).reshape(1, 16, 4, 4)
    tokens = pack(latents)
    assert tokens[0, 0, :8].tolist() == [0, 1, 4, 5, 16, 17, 20, 21]
    assert tokens[0, 1, :4].tolist() == [2, 3, 6, 7]
    assert tokens[0, 2, :4].tolist() == [8, 9, 12, 13]
    assert torch.equal(unpack(tokens, 4, 4), latents)


def test_packing_is_the_pipeline_s_and_unpacking_undoes_it_for_any_shape():
    latents = torch.randn(2, 3, 6, 4)
    assert torch.equal(pack(latents), FluxFillPipeline._pack_latents(latents, 2, 3, 6, 4))
    assert torch.equal(unpack(pack(latents), 6, 4), latents)


def test_one_masked_pixel_lands_on_one_channel_of_one_token():
    mask = torch.zeros(1, 1, 32, 32)
    mask[0, 0, 13, 22] = 1
    packed = pack_mask(mask, stride=8)
    assert packed.shape == (1, 4, 256)
    assert packed.nonzero().tolist() == [[0, 1, 186]]


def test_odd_latents_cannot_be_packed():
    with pytest.raises(ValueError, match="must be even, got 3x4"):
        pack(torch.zeros(1, 2, 3, 4))


def test_fill_constants_equal_the_pipeline_s_for_a_full_mask_over_a_blank_image():
    torch.manual_seed(0)
    space = VAE(build_vae(VAEConfig(channels=4, block_channels=(8,) * 4, norm_groups=4)))
    net = TINY.vary(latent_channels=4).build(20, space.encode)
    absent = dict.fromkeys(["text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "transformer"])
    pipeline = FluxFillPipeline(scheduler=FlowMatchEulerDiscreteScheduler(), vae=space.autoencoder, **absent)
    with torch.no_grad():
        space.autoencoder.encoder.conv_out.bias[
            4:
        ] = -30  # no posterior variance, so that the pipeline's draw is the mode
        mask, image = pipeline.prepare_mask_latents(
            torch.ones(1, 1, 32, 48),
            torch.zeros(1, 3, 32, 48),
            1,
            4,
            1,
            32,
            48,
            torch.float32,
            torch.device("cpu"),
            None,
        )
    fill, image_ids, text_ids = net.constants(4, 6, torch.device("cpu"))
    torch.testing.assert_close(fill, torch.cat([image, mask], dim=-1), atol=1e-5, rtol=1e-5)
    assert torch.equal(
        image_ids, FluxFillPipeline._prepare_latent_image_ids(1, 2, 3, torch.device("cpu"), torch.float32)
    )
    assert text_ids.shape == (0, 3)


def test_repainting_a_blank_picture_draws_the_pixels_of_diffusers_pipeline():
    vae = spread_norms(build_vae(VAEConfig(channels=4, block_channels=(32, 32, 64, 64), mid_attention=True)))
    with torch.no_grad():
        vae.encoder.conv_out.weight[4:] = 0  # no posterior variance, so that the pipeline's draw is the mode
        vae.encoder.conv_out.bias[4:] = -30
    set_statistics(vae, mean=0.1, std=0.5)
    net = TINY.vary(latent_channels=4, text=ZeroText(num_tokens=2)).build(20, VAE(deepcopy(vae)).encode)
    plain = deepcopy(net.transformer)
    plain.x_embedder = plain.x_embedder.base  # the condition's columns are zero, so the rest is Fill itself
    pipeline = FluxFillPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=vae.eval(),
        transformer=plain,
        **dict.fromkeys(["text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"]),
    )
    pipeline.set_progress_bar_config(disable=True)
    drawn = pipeline(
        image=torch.full((1, 3, 64, 96), 0.5),
        mask_image=torch.ones(1, 1, 64, 96),
        height=64,
        width=96,
        num_inference_steps=3,
        latents=pack(noise((4, 8, 12), [7])),
        prompt_embeds=torch.zeros(1, 2, 32),
        pooled_prompt_embeds=torch.zeros(1, 32),
        output_type="pt",
    ).images
    ours = FlowDecoder(VAE(deepcopy(vae)), net)
    found = ours.sample(torch.zeros(1, CONDITION, 8, 12), size=(64, 96), seeds=[7], steps=3)
    torch.testing.assert_close(found, 2 * drawn - 1, atol=1e-4, rtol=0)


def test_zero_condition_columns_leave_the_base_layer_as_it_was():
    base, x = nn.Linear(12, 8), torch.randn(2, 3, 12)
    fused = FusedXEmbedder(base, 4)
    torch.testing.assert_close(fused(torch.cat([x, torch.randn(2, 3, 4)], -1)), base(x), atol=1e-6, rtol=0)


def test_zero_fill_tells_fill_nothing():
    net = decoder(TINY.vary(fill=ZeroFill()))
    fill, ids, _ = net.constants(4, 6, torch.device("cpu"))
    blank, same_ids, _ = decoder().constants(4, 6, torch.device("cpu"))
    assert fill.shape == blank.shape
    assert fill.abs().sum() == 0 < blank.abs().sum()
    assert torch.equal(ids, same_ids)
    noisy, t, condition = inputs()
    assert not torch.allclose(net(noisy, t, condition), decoder()(noisy, t, condition))


def test_new_columns_that_do_not_start_at_zero_draw_the_same_base_and_pass_gradients_back_at_once():
    zero, free = decoder(), decoder(TINY.vary(zero_init=False))
    for (name, weight), other in zip(zero.named_parameters(), free.parameters(), strict=True):
        assert torch.equal(weight, other) != ("x_embedder.condition" in name)
    noisy, t, condition = inputs()
    condition.requires_grad_(True)
    free(noisy, t, condition).square().mean().backward()
    assert condition.grad.abs().sum() > 0


def test_a_fused_layer_equals_adding_the_projected_condition_in_a_hook():
    noisy, t, condition = inputs()
    net = decoder()
    nn.init.normal_(net.transformer.x_embedder.condition.weight, std=0.1)
    fused = net(noisy, t, condition)
    weight = net.transformer.x_embedder.condition.weight
    net.transformer.x_embedder.register_forward_hook(lambda *call: call[2] + pack(condition) @ weight.T)
    torch.testing.assert_close(net(noisy, t, torch.zeros_like(condition)), fused, atol=1e-6, rtol=0)


def test_a_new_decoder_is_the_plain_fill_transformer():
    noisy, t, condition = inputs()
    net = decoder()
    torch.manual_seed(0)
    plain = FluxTransformer2DModel(**{**net.transformer.config, "in_channels": 384})
    fill, image_ids, text_ids = net.constants(4, 6, noisy.device)
    expected = plain(
        hidden_states=torch.cat([pack(noisy), fill.expand(2, -1, -1)], -1),
        timestep=t,
        guidance=torch.tensor([30.0, 30.0]),
        encoder_hidden_states=torch.zeros(2, 0, 32),
        pooled_projections=torch.zeros(2, 32),
        img_ids=image_ids,
        txt_ids=text_ids,
    ).sample
    torch.testing.assert_close(net(noisy, t, condition), unpack(expected, 4, 6), atol=1e-5, rtol=0)


@pytest.mark.parametrize("text", [NoText(), ZeroText(num_tokens=1), ZeroText(num_tokens=8)])
def test_any_number_of_text_tokens_runs_and_the_condition_learns(text):
    net = decoder(TINY.vary(text=text))
    noisy, t, condition = inputs()
    condition.requires_grad_(True)
    velocity = net(noisy, t, condition)
    assert velocity.shape == noisy.shape
    velocity.square().mean().backward()
    assert net.transformer.x_embedder.condition.weight.grad.abs().sum() > 0
    assert condition.grad.abs().sum() == 0, "zero columns pass nothing back on the first step"


def test_conditions_on_the_token_grid_are_one_vector_a_token():
    net = decoder(condition_dim=CONDITION)
    noisy, t, condition = inputs()
    assert torch.equal(net.pack_condition(condition[:, :, :2, :3], 4, 6)[0, 1], condition[0, :, 0, 1])
    assert net(noisy, t, condition[:, :, :2, :3]).shape == noisy.shape


def test_conditions_that_do_not_fit_are_named():
    noisy, t, condition = inputs()
    with pytest.raises(ValueError, match="latents of 4x6 take a condition of 4x6 or 2x3, got 3x3"):
        decoder()(noisy, t, condition[:, :, :3, :3])
    with pytest.raises(ValueError, match="has 5 channels a token, this net reads 20"):
        decoder()(noisy, t, condition[:, :, :2, :3])


@pytest.mark.parametrize("stride", [4, 8, 16])
def test_the_stride_is_read_off_the_input_width(stride):
    config = TINY.vary(latent_channels=8, stride=stride, guidance=None)
    assert config.build(20, blank).stride == stride


def test_a_transformer_that_is_not_fill_or_lacks_guidance_is_refused():
    plain = FluxTransformer2DModel(
        in_channels=64,
        num_layers=0,
        num_single_layers=0,
        attention_head_dim=16,
        num_attention_heads=1,
        axes_dims_rope=(4, 4, 8),
    )
    with pytest.raises(ValueError, match="not a Fill transformer"):
        FluxDecoder(plain, 20, blank, FillConstants(guidance=None))
    with pytest.raises(ValueError, match="takes no guidance, got guidance=30"):
        FluxDecoder(plain, 20, blank)
    with pytest.raises(ValueError, match=r"add up to 16, not to head_dim=32"):
        TINY.vary(head_dim=32).build(20, blank)


def test_the_full_size_has_the_counts_of_the_spec():
    with torch.device("meta"):
        net = FluxConfig().build(272, blank)
    apply_scope(Attention(), net.transformer)
    counts = {True: 0, False: 0}
    for name, parameter in net.transformer.named_parameters():
        if not name.startswith("x_embedder.condition"):
            counts[parameter.requires_grad] += parameter.numel()
    assert net.transformer.x_embedder.base.in_features == 384
    assert round(sum(counts.values()) / 1e6) == 11902
    assert round(counts[True] / 1e6) == 2511


def step(net: FluxDecoder) -> set[str]:
    """One optimiser step on a dummy loss; the names of what changed."""
    before = {name: value.clone() for name, value in net.state_dict().items()}
    nn.init.normal_(net.transformer.x_embedder.condition.weight, std=0.02)
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    net(*inputs()).square().sum().backward()
    optimizer.step()
    return {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}


def test_the_attention_scope_changes_attention_and_condition_only():
    net = decoder()
    apply_scope(Attention(), net.transformer)
    changed = step(net)
    assert "transformer.x_embedder.condition.weight" in changed
    assert "transformer.single_transformer_blocks.0.attn.to_q.weight" in changed
    assert all(".attn." in name or ".condition." in name for name in changed)


def test_the_lora_scope_starts_equal_and_changes_adapters_only():
    net = decoder()
    before = net(*inputs())
    apply_scope(LoRA(rank=2, alpha=2), net.transformer)
    torch.testing.assert_close(net(*inputs()), before)
    changed = step(net)
    assert sum(".lora_B." in name for name in changed) >= 5
    assert all(".lora_" in name or ".condition." in name for name in changed)


def test_the_full_scope_changes_every_block():
    net = decoder()
    apply_scope(Full(), net.transformer)
    changed = step(net)
    assert {"transformer.proj_out.weight", "transformer.x_embedder.base.weight"} <= changed


def test_frozen_bf16_and_learning_fp32_weights_train_together():
    net = decoder().to(torch.bfloat16)
    apply_scope(Attention(), net.transformer)
    dtypes = {p.dtype for p in net.parameters() if p.requires_grad}
    assert dtypes == {torch.float32}
    assert net.transformer.proj_out.weight.dtype == torch.bfloat16
    velocity = net(*inputs())
    assert velocity.dtype == torch.float32
    velocity.square().mean().backward()
    assert net.transformer.x_embedder.condition.weight.grad.abs().sum() > 0


def test_gradient_checkpointing_gives_the_same_gradients():
    gradients = []
    for checkpointed in (False, True):
        net = decoder().train()
        if checkpointed:
            net.transformer.enable_gradient_checkpointing()
        net(*inputs()).square().mean().backward()
        gradients.append(net.transformer.transformer_blocks[0].attn.to_q.weight.grad)
    torch.testing.assert_close(*gradients)


def test_released_weights_load_by_folder_and_start_at_the_same_velocity(tmp_path):
    torch.manual_seed(0)
    net = decoder()
    widened, net.transformer.x_embedder = net.transformer.x_embedder, net.transformer.x_embedder.base
    net.transformer.save_pretrained(tmp_path / "transformer")
    net.transformer.x_embedder = widened
    loaded = PretrainedFlux(name=str(tmp_path), dtype="float32", text=NoText()).build(4 * CONDITION, blank)
    weights = net.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in loaded.state_dict().items() if "cond" not in name)
    torch.testing.assert_close(loaded(*inputs()), net(*inputs()), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match=r"there is no folder '.+nowhere'"):
        PretrainedFlux(name=str(tmp_path / "nowhere")).build(4, blank)


def test_the_empty_prompt_is_read_from_a_file_and_must_fit(tmp_path):
    file = tmp_path / "empty.safetensors"
    save_tensors(file, {"text": torch.ones(3, 32), "pooled": torch.full((32,), 2.0)})
    net = decoder(TINY.vary(text=EmptyPrompt(source=str(file), num_tokens=3)))
    assert torch.equal(net.text, torch.ones(3, 32))
    assert net.pooled.unique().item() == 2
    with pytest.raises(ValueError, match=r"is \(3, 32\) and \(32,\)"):
        decoder(TINY.vary(text=EmptyPrompt(source=str(file))))


def test_the_empty_prompt_is_encoded_as_the_pipeline_encodes_it(tmp_path):
    from tokenizers import Tokenizer, models, processors
    from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast, T5Config, T5EncoderModel

    torch.manual_seed(0)
    clip = CLIPTextModel(
        CLIPTextConfig(
            hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, vocab_size=4, eos_token_id=1
        )
    ).eval()
    t5 = T5EncoderModel(T5Config(d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, vocab_size=4)).eval()
    words = Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2}, unk_token="<unk>"))
    words.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", model_max_length=77
    )
    absent = {"vae": None, "transformer": None, "scheduler": FlowMatchEulerDiscreteScheduler()}
    pipeline = FluxFillPipeline(
        text_encoder=clip, tokenizer=tokenizer, text_encoder_2=t5, tokenizer_2=tokenizer, **absent
    )
    for name in ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"):
        getattr(pipeline, name).save_pretrained(tmp_path / name)
    with torch.no_grad():
        expected_text, expected_pooled, _ = pipeline.encode_prompt(
            "", "", max_sequence_length=12, device=torch.device("cpu")
        )
    text, pooled = encode_empty_prompt(str(tmp_path), 12)
    torch.testing.assert_close(text, expected_text[0])
    torch.testing.assert_close(pooled, expected_pooled[0])
