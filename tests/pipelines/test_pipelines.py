"""Pipelines as diffusers has them, over the same objects: the same pixels, and what diffusers' users expect."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers.callbacks import PipelineCallback
from PIL import Image

import detokenizers as dt
from detokenizers.pipelines import TextToImagePipeline, TokenDecoderPipeline
from detokenizers.pipelines.components import Drawer, FrozenVLM
from detokenizers.pipelines.given import next_seed, seeds_of
from detokenizers.pixels import to_levels
from detokenizers.pretrained.flux.scope import LoRA
from detokenizers.pretrained.vlm.language_models import save_language_model
from detokenizers.pretrained.vlm.visual_vocabulary import PlainPrompts, grow

from ..dcdd import tiny as dcdd
from ..dcdd.test_pixel_model import decoder as pixel_decoder
from ..madit import tiny as madit
from ..pretrained.vlm.test_visual_words import WORDS, language_model
from ..stack import PIXELS
from ..vugen.tiny import feature_vlm, vugen

PROMPT, OTHER = "a red apple on a wooden table", "two red apples"
SIZE = (PIXELS, PIXELS)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def pipe(embedded) -> TokenDecoderPipeline:
    return dt.pipeline("mini", decoder="mini/dcdd")


@pytest.fixture(scope="module")
def text_to_image() -> TextToImagePipeline:
    return TextToImagePipeline(vugen(feature_vlm()))


@pytest.fixture(scope="module")
def of_madit(tmp_path_factory) -> TokenDecoderPipeline:
    codes = madit.tokenizer(madit.vae_folder(tmp_path_factory.mktemp("vae")))
    return TokenDecoderPipeline(decoder=madit.model(codes, text="encoder_decoder"))


def test_a_generator_stands_for_its_own_seed_and_then_for_seeds_that_it_draws():
    row = seeds_of(generator(7), 3)
    assert row[0] == 7
    assert len(set(row)) == 3
    used = generator(7)
    assert [next_seed(used) for _ in range(3)] == row
    assert seeds_of([generator(5), generator(6)], 2) == [5, 6]
    torch.manual_seed(0)
    drawn = seeds_of(None, 2)
    torch.manual_seed(0)
    assert seeds_of(None, 2) == drawn != seeds_of(None, 2)
    with pytest.raises(ValueError, match="3 pictures are to be drawn, but there are 2 generators"):
        seeds_of([generator(5), generator(6)], 3)


def test_pictures_equal_those_of_the_same_vlm_and_decoder_to_the_bit(pipe):
    drawn = pipe(PROMPT, generator=generator(3), num_inference_steps=4)
    vlm, decoder = dt.load_vlm("mini"), dt.load("mini/dcdd")
    tokens = vlm.generate([PROMPT], seeds=[3], observe=decoder.observers)
    images = decoder(tokens, steps=4, seeds=[3])
    assert torch.equal(drawn.visual_tokens.ids, tokens.ids)
    assert np.array_equal(np.asarray(drawn.images[0]), to_levels(images)[0])
    plain = dt.pipeline("mini", decoder="vq")(PROMPT, generator=generator(3), output_type="pt").images
    assert torch.equal(plain, dt.CodeDecoder(vlm.tokenizer)(tokens) / 2 + 0.5)


def test_pictures_of_vugen_and_madit_equal_those_of_the_models(text_to_image, of_madit):
    model = text_to_image.model.model
    prompts = ["a red apple", "two green dog"]
    drawn = text_to_image(prompts, generator=[generator(1), generator(2)], guidance_scale=3.0, num_inference_steps=4)
    images = model(prompts, seeds=[1, 2], guidance=3.0, steps=4)
    assert np.array_equal(np.stack(drawn.images), to_levels(images))
    decoder = of_madit.decoder.model
    tokens, words = madit.tokens(decoder.codes), ["a red apple", "green pear", "on wood"]
    seeds = [generator(seed) for seed in (4, 5, 6)]
    drawn = of_madit(visual_tokens=tokens, generator=seeds, captions=words, num_inference_steps=3, output_type="pt")
    images = decoder(replace(tokens, captions=words), seeds=[4, 5, 6], steps=3)
    assert torch.equal(drawn.images, (images / 2 + 0.5).clamp(0, 1))
    stronger = of_madit(
        visual_tokens=tokens, generator=[generator(seed) for seed in (4, 5, 6)], captions=words, num_inference_steps=3,
        output_type="pt", decoder_guidance_scale=4.0,
    ).images  # fmt: skip
    assert not torch.allclose(stronger, drawn.images, atol=1e-3)


def test_a_batch_draws_what_single_calls_draw(pipe, text_to_image):
    for one, prompts in ((pipe, [PROMPT, OTHER]), (text_to_image, ["a red apple", "two green dog"])):
        both = one(prompts, generator=[generator(1), generator(2)], output_type="pt").images
        single = [
            one(prompt, generator=generator(seed), output_type="pt").images for prompt, seed in zip(prompts, (1, 2))
        ]
        assert torch.allclose(both, torch.cat(single), atol=1e-4)
        assert not torch.allclose(both[0], both[1], atol=1e-2)


def test_pictures_of_one_prompt_have_seeds_of_their_own_and_a_generator_goes_on(pipe):
    used = generator(9)
    several = pipe(PROMPT, num_images_per_prompt=3, generator=used, output_type="pt").images
    assert len(several) == 3
    seeds = seeds_of(generator(9), 4)
    again = pipe(
        [PROMPT] * 3, generator=[generator(seed) for seed in seeds[:3]], output_type="pt"
    ).images  # fmt: skip
    assert torch.equal(several, again)
    after = pipe(PROMPT, generator=used, output_type="pt").images
    assert torch.equal(after, pipe(PROMPT, generator=generator(seeds[3]), output_type="pt").images)


def test_kinds_of_output_are_one_picture(pipe):
    kinds = {
        kind: pipe(PROMPT, generator=generator(0), output_type=kind).images for kind in ("pil", "np", "pt", "latent")
    }
    assert kinds["pil"][0].size == SIZE
    assert kinds["np"].shape == (1, PIXELS, PIXELS, 3)
    assert np.array_equal(kinds["np"], kinds["pt"].permute(0, 2, 3, 1).numpy())
    assert np.abs(kinds["np"][0] * 255 - np.asarray(kinds["pil"][0])).max() <= 0.51
    assert torch.equal(pipe.decoder.model.decode(kinds["latent"]) / 2 + 0.5, kinds["pt"])
    images, tokens = pipe(PROMPT, generator=generator(0), output_type="pt", return_dict=False)
    assert torch.equal(images, kinds["pt"])
    assert tokens.ids.shape == (1, 16)
    with pytest.raises(ValueError, match="output_type is 'jpeg'; it can be pil, np, pt, latent"):
        pipe(PROMPT, output_type="jpeg")


def test_tokens_of_one_call_go_into_another_and_pictures_into_tokens(pipe):
    first = pipe(PROMPT, generator=generator(2), output_type="pt")
    second = pipe(visual_tokens=first.visual_tokens, generator=generator(2), output_type="pt")
    assert torch.equal(first.images, second.images)
    picture = Image.effect_mandelbrot((40, 30), (-2, -1, 1, 1), 50).convert("RGB")
    again = pipe(images=picture, generator=generator(2), num_images_per_prompt=2, output_type="pt")
    assert again.images.shape == (2, 3, *SIZE)
    assert torch.equal(again.visual_tokens.ids[0], again.visual_tokens.ids[1])
    levels = torch.rand(1, 3, *SIZE, generator=generator(0))
    decoder, tokenizer = pipe.decoder.model, pipe.tokenizer
    expected = decoder(decoder.read(2 * levels - 1, tokenizer), seeds=[5]) / 2 + 0.5
    assert torch.equal(pipe(images=levels, generator=generator(5), output_type="pt").images, expected)
    arrays = levels.permute(0, 2, 3, 1).numpy()
    assert torch.equal(pipe(images=arrays, generator=generator(5), output_type="pt").images, expected)


def test_bare_ids_are_enough_where_nothing_else_is_needed(embedded, of_madit):
    plain = dt.pipeline("mini", decoder="vq")
    ids = torch.randint(64, (2, 16), generator=generator(0))
    images = plain(visual_tokens=ids, output_type="pt").images
    assert torch.equal(images, plain.tokenizer.decode(plain.tokenizer.codebook[ids]) / 2 + 0.5)
    codes = of_madit.decoder.model.codes
    assert of_madit(visual_tokens=madit.tokens(codes).ids, generator=generator(0)).images[0].size == (madit.SIZE,) * 2
    assert len(of_madit(images=(madit.images(2) + 1) / 2, generator=generator(0)).images) == 2


def test_a_callback_sees_every_step_and_may_change_it_or_end_it(pipe, text_to_image, of_madit):
    tokens = madit.tokens(of_madit.decoder.model.codes, 1)
    cases = (
        (pipe, {"prompt": PROMPT}),
        (text_to_image, {"prompt": "a red apple"}),
        (of_madit, {"visual_tokens": tokens}),
    )
    for one, given in cases:
        call = {**given, "num_inference_steps": 3, "output_type": "latent"}
        seen, last = [], {}

        def watch(self, step, timestep, tensors, one=one, seen=seen, last=last):
            assert self is one
            seen.append((step, float(timestep), self.num_timesteps))
            last.update(tensors)
            return tensors

        drawn = one(**call, generator=generator(0), callback_on_step_end=watch).images
        assert [step for step, *_ in seen] == [0, 1, 2]
        assert seen[0][1:] == (1000.0, 3)
        assert seen[0][1] > seen[1][1] > seen[2][1] > 0
        assert torch.equal(last["latents"], drawn)
        assert torch.equal(one(**call, generator=generator(0)).images, drawn)

        def blank(self, step, timestep, tensors):
            return {"latents": torch.zeros_like(tensors["latents"])} if step == 2 else tensors

        assert not one(**call, generator=generator(0), callback_on_step_end=blank).images.any()

        def enough(self, step, timestep, tensors, seen=seen):
            seen.append(step)
            self._interrupt = step == 0

        seen.clear()
        one(**call, generator=generator(0), callback_on_step_end=enough)
        assert seen == [0]


def test_callbacks_of_diffusers_name_their_tensors_and_unknown_ones_are_refused(pipe):
    class Watch(PipelineCallback):
        tensor_inputs = ["latents"]  # noqa: RUF012

        def callback_fn(self, pipeline, step_index, timesteps, callback_kwargs):
            self.shape = callback_kwargs["latents"].shape
            return callback_kwargs

    watch = Watch(cutoff_step_ratio=None, cutoff_step_index=1)
    pipe(PROMPT, generator=generator(0), num_inference_steps=2, callback_on_step_end=watch)
    assert watch.shape == (1, 4, 8, 8)
    with pytest.raises(ValueError, match="names prompt_embeds; there is only latents"):
        pipe(PROMPT, callback_on_step_end=lambda *_: {}, callback_on_step_end_tensor_inputs=["prompt_embeds"])


def test_the_progress_bar_can_be_set(pipe, capsys):
    pipe(PROMPT, generator=generator(0), num_inference_steps=2)
    assert capsys.readouterr().err == ""  # no terminal, no bar
    pipe.set_progress_bar_config(disable=False)
    pipe(PROMPT, generator=generator(0), num_inference_steps=2)
    bars = capsys.readouterr().err
    assert "16/16" in bars
    assert "2/2" in bars


def test_a_saved_pipeline_draws_the_same(pipe, text_to_image, of_madit, tmp_path, monkeypatch):
    tokens = madit.tokens(of_madit.decoder.model.codes, 2)
    of_madit.save_pretrained(tmp_path / "madit")
    pipe.save_pretrained(tmp_path / "dcdd")
    assert json.loads((tmp_path / "dcdd" / "vlm" / "vlm.json").read_text()) == {"vlm": "mini"}
    index = json.loads((tmp_path / "dcdd" / "model_index.json").read_text())
    assert index["_class_name"] == "TokenDecoderPipeline"
    assert index["decoder"] == ["detokenizers.pipelines.components", "Drawer"]
    written = {path.suffix for folder in ("dcdd", "madit") for path in (tmp_path / folder).rglob("*") if path.is_file()}
    assert written == {".json", ".yaml", ".safetensors", ".txt", ".md"}  # .txt: the words of MaDiT
    for one, folder, given in ((pipe, "dcdd", {"prompt": PROMPT}), (of_madit, "madit", {"visual_tokens": tokens})):
        seeds = [generator(seed) for seed in range(2 if folder == "madit" else 1)]
        before = one(**given, generator=seeds, output_type="pt").images
        for loaded in (TokenDecoderPipeline.from_pretrained(tmp_path / folder), dt.pipeline(tmp_path / folder)):
            seeds = [generator(seed) for seed in range(len(seeds))]
            assert torch.equal(loaded(**given, generator=seeds, output_type="pt").images, before)
    model = text_to_image.model.model
    monkeypatch.setattr("detokenizers.vugen.model.load_feature_vlm", lambda name, view: model.vlm)
    text_to_image.save_pretrained(tmp_path / "vugen")
    again = dt.pipeline(tmp_path / "vugen")
    assert isinstance(again, TextToImagePipeline)
    before = text_to_image("a red apple", generator=generator(0), output_type="pt").images
    assert torch.equal(again("a red apple", generator=generator(0), output_type="pt").images, before)


def test_parts_are_optional_and_can_be_handed_over(pipe, embedded, tmp_path):
    vlm, tokens = pipe.vlm, pipe(PROMPT, generator=generator(0)).visual_tokens
    plain = TokenDecoderPipeline(vlm)
    plain.save_pretrained(tmp_path / "plain")
    again = TokenDecoderPipeline.from_pretrained(tmp_path / "plain", vlm=vlm)
    assert again.decoder is None
    assert again.vlm is vlm
    alone = TokenDecoderPipeline(decoder=pipe.decoder)
    images = alone(visual_tokens=tokens, generator=generator(0), output_type="pt").images
    assert torch.equal(images, pipe(visual_tokens=tokens, generator=generator(0), output_type="pt").images)
    with pytest.raises(ValueError, match="has no VLM to read a prompt; hand over visual_tokens"):
        alone(PROMPT)
    with pytest.raises(ValueError, match="has neither a decoder nor a VLM"):
        TokenDecoderPipeline()(visual_tokens=tokens)
    shared = TokenDecoderPipeline.from_pipe(pipe)
    assert shared.decoder is pipe.decoder


def test_a_vlm_from_a_folder_is_copied_and_one_without_a_name_is_not_saved(embedded, tmp_path):
    pipe = TokenDecoderPipeline(FrozenVLM.named(str(embedded / "mini" / "vlm")))
    pipe.save_pretrained(tmp_path / "whole")
    assert (tmp_path / "whole" / "vlm" / "model.safetensors").is_file()
    drawn = pipe(PROMPT, generator=generator(0), output_type="pt").images
    moved = (tmp_path / "whole").rename(tmp_path / "elsewhere")
    again = TokenDecoderPipeline.from_pretrained(moved)
    assert torch.equal(again(PROMPT, generator=generator(0), output_type="pt").images, drawn)
    again.save_pretrained(tmp_path / "third")
    assert (tmp_path / "third" / "vlm" / "model.safetensors").is_file()
    with pytest.raises(ValueError, match="was handed over as an object"):
        TokenDecoderPipeline(dt.load_vlm("mini")).save_pretrained(tmp_path / "none")
    with pytest.raises(ValueError, match="weights are written as safetensors and nothing else"):
        pipe.save_pretrained(tmp_path / "pickled", safe_serialization=False)
    with pytest.raises(ValueError, match="saving takes no variant"):
        pipe.save_pretrained(tmp_path / "variant", variant="fp16")


def test_a_language_model_with_visual_words_and_madit_draw_a_prompt_and_are_saved_whole(tmp_path):
    codes = madit.tokenizer(madit.vae_folder(tmp_path / "vae"))
    model = language_model("llama")
    vocabulary = grow(model, codes.config.codes, prompts=PlainPrompts(), known=len(WORDS))
    save_language_model(model, WORDS, tmp_path / "llm", dtype=torch.float32)
    codes.save(tmp_path / "llm" / "tokenizer")
    (tmp_path / "llm" / "visual_vocabulary.yaml").write_text(vocabulary.to_yaml())
    for state in ("state.safetensors", "state/00000001/model.safetensors"):
        (tmp_path / "llm" / state).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "llm" / state).write_bytes(b"of a training, and nobody else's")
    madit.model(codes, text="encoder_decoder").save(tmp_path / "madit")
    pipe = dt.pipeline(tmp_path / "llm", decoder=tmp_path / "madit")
    drawn = pipe("a red apple", generator=generator(3), output_type="pt")
    decoder = dt.load(tmp_path / "madit")
    tokens = dt.load_vlm(tmp_path / "llm").generate(["a red apple"], seeds=[3], observe=decoder.observers)
    images = decoder(replace(tokens, captions=["a red apple"]), seeds=[3])
    assert torch.equal(drawn.visual_tokens.ids, tokens.ids)
    assert torch.equal(drawn.images, images / 2 + 0.5)
    pipe.save_pretrained(tmp_path / "pipe")
    assert not list((tmp_path / "pipe").rglob("state*"))
    again = dt.pipeline((tmp_path / "pipe").rename(tmp_path / "moved"))
    assert torch.equal(again("a red apple", generator=generator(3), output_type="pt").images, drawn.images)


def test_half_precision_is_for_the_nets_and_draws_nearly_the_same(pipe, text_to_image, of_madit, tmp_path):
    pipe.save_pretrained(tmp_path / "pipe")
    before = pipe(PROMPT, generator=generator(0))
    whole = pipe(visual_tokens=before.visual_tokens, generator=generator(0), output_type="pt").images
    half = TokenDecoderPipeline.from_pretrained(tmp_path / "pipe", dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    assert half.transformer.proj_out.weight.dtype == half.vae.dtype == torch.bfloat16
    assert half.vlm.model.model.model.language_model.norm.weight.dtype == torch.bfloat16
    decoder = half.decoder.model
    assert {decoder.codebook.dtype, decoder.encoder.fc.weight.dtype, half.tokenizer.codebook.dtype} == {torch.float32}
    assert half.vlm.model.model.model.generation_head.vision_head.weight.dtype == torch.float32
    assert half(PROMPT, generator=generator(0)).images[0].size == SIZE
    drawn = half(visual_tokens=before.visual_tokens, generator=generator(0), output_type="pt").images
    assert 0 < (drawn - whole).abs().mean() < 0.02
    fixed = madit.tokens(of_madit.decoder.model.codes, 1)
    for one, given in ((text_to_image, {"prompt": "a red apple"}), (of_madit, {"visual_tokens": fixed})):
        one.save_pretrained(tmp_path / "other") if one is of_madit else None
        whole = one(**given, generator=generator(0), output_type="pt").images
        copied = (
            TokenDecoderPipeline.from_pretrained(tmp_path / "other")
            if one is of_madit
            else TextToImagePipeline(vugen(feature_vlm()))
        )
        drawn = copied.to(torch.bfloat16)(**given, generator=generator(0), output_type="pt").images
        assert copied.dtype == torch.bfloat16
        assert 0 < (drawn - whole).abs().mean() < 0.05


def test_models_are_offloaded_one_after_the_other(pipe):
    before = pipe(PROMPT, generator=generator(0), output_type="pt").images
    pipe.enable_model_cpu_offload(device="cpu")
    assert [hook.model for hook in pipe._all_hooks] == [pipe.vlm, pipe.decoder]
    assert pipe._all_hooks[1].hook.prev_module_hook is pipe._all_hooks[0]
    assert torch.equal(pipe(PROMPT, generator=generator(0), output_type="pt").images, before)
    assert [hook.model for hook in pipe._all_hooks] == [pipe.vlm, pipe.decoder]


def test_the_autoencoder_can_be_tiled(pipe, text_to_image):
    before = pipe(PROMPT, generator=generator(0), output_type="pt").images
    vae = pipe.vae
    vae.enable_tiling()
    vae.tile_sample_min_size, vae.tile_latent_min_size = 8, 4
    tiled = pipe(PROMPT, generator=generator(0), output_type="pt").images
    assert tiled.shape == before.shape
    assert 0 < (tiled - before).abs().mean() < 0.3
    vae.disable_tiling()
    assert torch.equal(pipe(PROMPT, generator=generator(0), output_type="pt").images, before)
    assert text_to_image.vae is None


def lora_for(transformer: torch.nn.Module, seed: int = 0) -> dict[str, torch.Tensor]:
    """Low-rank weights for two layers, under the names that published files have."""
    found = {}
    for name in ("transformer_blocks.0.attn.to_q", "x_embedder"):
        layer = transformer.get_submodule(name)
        layer = getattr(layer, "base", layer)
        noise = generator(seed)
        found[f"transformer.{name}.lora_A.weight"] = torch.randn(2, layer.in_features, generator=noise)
        found[f"transformer.{name}.lora_B.weight"] = torch.randn(layer.out_features, 2, generator=noise)
    return found


def test_lora_weights_are_added_weighed_and_taken_out(pipe, text_to_image, tmp_path):
    draw = lambda: pipe(PROMPT, generator=generator(0), output_type="pt").images  # noqa: E731
    before, weights = draw(), lora_for(pipe.transformer)
    pipe.load_lora_weights(weights, adapter_name="style")
    styled = draw()
    assert not torch.allclose(styled, before, atol=1e-2)
    assert pipe.get_active_adapters() == ["style"]
    pipe.set_adapters("style", 0.0)
    assert torch.allclose(draw(), before, atol=1e-6)
    with pytest.raises(ValueError, match=r"LoRA weights \(style\) are no part of this pipeline"):
        pipe.save_pretrained(tmp_path / "pipe")
    pipe.unload_lora_weights()
    assert torch.equal(draw(), before)
    pipe.save_pretrained(tmp_path / "pipe")
    from safetensors.torch import save_file

    save_file(weights, tmp_path / "style.safetensors")
    pipe.load_lora_weights(str(tmp_path), weight_name="style.safetensors")
    assert torch.allclose(draw(), styled, atol=1e-5)
    with pytest.raises(ValueError, match="the VUGEN of this pipeline has no FLUX"):
        text_to_image.load_lora_weights(weights)
    with pytest.raises(ValueError, match="these are no LoRA weights"):
        pipe.load_lora_weights({"transformer.proj_out.weight": torch.zeros(1)})


def test_a_decoder_that_was_trained_as_lora_keeps_its_adapter(tmp_path):
    trained = dcdd.build(dcdd.config(tmp_path / "vae").vary(scope=LoRA(rank=2, alpha=2)))
    with torch.no_grad():
        for name, weight in trained.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    trained.requires_grad_(False)
    tokens = trained.read(torch.rand(1, 3, 32, 32, generator=generator(0)) * 2 - 1, dcdd.Tokenizer())
    pipe = TokenDecoderPipeline(decoder=trained)
    draw = lambda: pipe(visual_tokens=tokens, generator=generator(0), output_type="pt").images  # noqa: E731
    before = draw()
    pipe.load_lora_weights(lora_for(pipe.transformer), adapter_name="style")
    assert pipe.get_active_adapters() == ["default", "style"]
    assert not torch.allclose(draw(), before, atol=1e-2)
    pipe.unload_lora_weights()
    assert pipe.get_active_adapters() == ["default"]
    assert torch.equal(draw(), before)


def test_a_decoder_of_pixels_has_steps_to_watch_and_no_autoencoder(tmp_path):
    built = pixel_decoder()
    tokens = built.read(torch.rand(2, 3, 32, 32, generator=generator(0)) * 2 - 1, dcdd.Tokenizer())
    TokenDecoderPipeline(decoder=built).save_pretrained(tmp_path)
    pipe, seen = TokenDecoderPipeline.from_pretrained(tmp_path, device_map="cpu"), []
    images = pipe(
        visual_tokens=tokens, generator=[generator(0), generator(1)], output_type="pt",
        callback_on_step_end=lambda pipe, step, timestep, tensors: seen.append(tensors["latents"].shape),
    ).images  # fmt: skip
    assert torch.equal(images, built(tokens, seeds=[0, 1]) / 2 + 0.5)
    assert seen == [(2, 3, 32, 32)] * 2
    assert pipe.vae is pipe.transformer is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({}, "give one of prompt, visual_tokens and images"),
        ({"prompt": PROMPT, "images": torch.zeros(1, 3, *SIZE)}, "give one of prompt, visual_tokens and images"),
        ({"images": torch.zeros(1, 3, 8, 8)}, r"images as numbers are \[b 3 16 16\]"),
        ({"images": torch.full((1, 3, *SIZE), 2.0)}, "in \\[0, 1\\]"),
        ({"images": torch.zeros(1, 3, *SIZE), "guidance_scale": 2.0}, "are the VLM's"),
        ({"prompt": PROMPT, "captions": [PROMPT]}, "a DCDD takes no captions"),
        ({"prompt": PROMPT, "decoder_guidance_scale": 2.0}, "a DCDD takes no guidance"),
        ({"prompt": PROMPT, "num_images_per_prompt": 0}, "num_images_per_prompt is 0"),
        ({"prompt": PROMPT, "num_inference_steps": 0}, "at least one step"),
        ({"prompt": "a zebra"}, "zebra"),
        ({"prompt": PROMPT, "generator": 3}, "generator is 3; give torch.Generator"),
        ({"images": "photo.png"}, "images are PIL pictures"),
        ({"images": []}, "images are PIL pictures"),
        ({"visual_tokens": [[1, 2]]}, r"2 tokens do not fill a 4x4 grid"),
        ({"visual_tokens": torch.rand(1, 16)}, r"token ids are whole numbers \[b n\], not torch.float32"),
        (
            {"prompt": PROMPT, "callback_on_step_end": lambda *given: {"latents": torch.zeros(3)}},
            r"made latents \[3\] of",
        ),
        ({"visual_tokens": torch.zeros(1, 16, dtype=torch.long)}, "come without lcdm-"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(pipe, call, message):
    with pytest.raises(ValueError, match=message) as caught:
        pipe(**call)
    assert "\n" not in str(caught.value)


def test_names_that_lead_nowhere_or_elsewhere_are_refused(embedded, pipe, tmp_path):
    with pytest.raises(ValueError, match="mini/dcdd draws from tokens; name a VLM and this as its decoder"):
        dt.pipeline("mini/dcdd")
    with pytest.raises(ValueError, match="there is no folder 'mini/nothing'"):
        dt.pipeline("mini/nothing")
    for vlm in ("mini", "mini/vlm"):
        with pytest.raises(ValueError, match="a VLM is named with a decoder, decoder='vq' or another"):
            dt.pipeline(vlm)
    with pytest.raises(ValueError, match="there is no device 'abacus' here"):
        dt.pipeline("mini", decoder="vq", device="abacus")
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    with pytest.raises(ValueError, match="holds no readable LoRA weights"):
        pipe.load_lora_weights(tmp_path, weight_name="junk.safetensors")
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    with pytest.raises(ValueError, match="is of a StableDiffusionPipeline"):
        dt.pipeline(tmp_path)
    with pytest.raises(ValueError, match=r"(this decoder was trained for 12 codes|this MaDiT decodes 4x4 tokens)"):
        TokenDecoderPipeline(pipe.vlm, Drawer(madit.model(madit.tokenizer(madit.vae_folder(tmp_path / "vae")))))
