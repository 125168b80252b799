"""All that the scripts of the paper's tables ask for, tiny and random, where they look for it: checkpoints in the
official formats under their official names, and data sets as they are unpacked, with every kind of picture in them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    T5Config,
    T5EncoderModel,
)

from detokenizers.evaluation.benchmarks import geneval_prompts as geneval
from detokenizers.evaluation.benchmarks import mjhq
from detokenizers.evaluation.benchmarks.dpg_questions import COLUMNS
from detokenizers.pretrained.flux.transformer import FluxConfig
from detokenizers.pretrained.spaces import VAEConfig, build_vae, save_vae
from detokenizers.pretrained.vlm.janus_size import JanusSize, build_janus
from detokenizers.pretrained.vlm.llamagen import LlamaGenSize
from detokenizers.pretrained.vlm.word_tokenizer import word_tokenizer

from .pretrained.judges import save_clip, save_detector
from .pretrained.vlm.llamagen_reference import ReferenceGPT, ReferenceVQ

PIXELS = 64
CODES = 64
JANUS = JanusSize(
    hidden=32, layers=1, heads=2, vocabulary=0, max_positions=128, image_size=PIXELS, grid=4, codebook=CODES,
    vq_channels=32, vq_multipliers=(1, 1, 1, 1, 1), vq_blocks=0, vq_latent=32, vision_hidden=32, vision_layers=1,
    vision_heads=2,
)  # fmt: skip
LLAMAGEN = LlamaGenSize(
    hidden=32, layers=1, heads=2, intermediate=48, grid=4, codebook=CODES, caption_dim=16, caption_length=120,
    vq_channels=32, vq_multipliers=(1, 1, 1, 1, 1), vq_blocks=1, vq_latent=32,
)  # fmt: skip
FLUX = FluxConfig(
    layers=1, single_layers=1, heads=2, head_dim=16, axes=(4, 4, 8), text_dim=16, pooled_dim=16, latent_channels=4
)
TRAIN = (
    f"--images.size {PIXELS} --train.steps 2 --train.workers 1 --train.batch-size 2 --train.log-every 1 "
    "--decoder.net.text.num-tokens 8 --decoder.condition.width 8 --decoder.condition.groups 4 --decoder.steps 1"
)
"""What a script must be told to train on all this."""
ASKS = [
    {"tag": "single_object", "include": [{"class": "bench", "count": 1}]},
    {"tag": "two_object", "include": [{"class": "bench", "count": 1}, {"class": "dog", "count": 1}]},
    {"tag": "counting", "include": [{"class": "dog", "count": 2}], "exclude": [{"class": "dog", "count": 3}]},
    {"tag": "colors", "include": [{"class": "dog", "count": 1, "color": "red"}]},
    {
        "tag": "position",
        "include": [{"class": "dog", "count": 1}, {"class": "bench", "count": 1, "position": ["above", 0]}],
    },
    {
        "tag": "color_attr",
        "include": [{"class": "dog", "count": 1, "color": "red"}, {"class": "bench", "count": 1, "color": "blue"}],
    },
]


def build(place: Path) -> None:
    """Everything, below the folder that a script runs in."""
    torch.manual_seed(0)
    save_janus(place / "deepseek-community/Janus-Pro-7B")
    save_flux(place / "black-forest-labs/FLUX.1-Fill-dev")
    save_llamagen(place / "weights/llamagen")
    save_detector(place / "facebook/mask2former-swin-small-coco-instance")
    save_clip(place / "openai/clip-vit-large-patch14")
    for split, number in (("train", 6), ("val", 6)):
        save_imagenet(place / "imagenet" / split, number)
    save_mjhq(place / "mjhq30k")
    save_asks(place / "geneval/prompts/evaluation_metadata.jsonl")


def save_asks(path: Path) -> None:
    """One prompt of every task of GenEval."""
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(ask | {"prompt": f"a {ask['tag']}"}) + "\n" for ask in ASKS))


def save_questions(path: Path) -> None:
    """Two items of DPG-Bench with a question each."""
    rows = [f"{text},{text},,1,0,entity,whole,entity - whole (x),Is it?" for text in ("a table", "two apples")]
    path.parent.mkdir(parents=True)
    path.write_text("\n".join([",".join(COLUMNS), *rows]) + "\n")


def wide(model: torch.nn.Module) -> None:
    """Weights large enough for beliefs to differ from uniform."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2 and "vision_model" not in name:
                weight.normal_(0, 2.5 * weight.shape[1] ** -0.5)


def save_janus(folder: Path) -> None:
    words = word_tokenizer(["two", "red", "apples", "on", "a", "wooden", "table", *geneval.TASKS, *mjhq.CATEGORIES])
    model = build_janus(JANUS.vary(vocabulary=len(words)), words)
    wide(model)
    model.save_pretrained(folder)
    words.save_pretrained(folder)


def save_llamagen(folder: Path) -> None:
    folder.mkdir(parents=True)
    gpt = ReferenceGPT(LLAMAGEN)
    wide(gpt)
    with torch.no_grad():
        gpt.output.weight *= 2
    torch.save({"model": gpt.state_dict()}, folder / "t2i_XL_stage1_256.pt")
    torch.save({"model": ReferenceVQ(LLAMAGEN).state_dict()}, folder / "vq_ds16_t2i.pt")
    save_t5(folder / "flan-t5-xl", folder / "flan-t5-xl")


def save_flux(folder: Path) -> None:
    net = FLUX.build(4, lambda images: images).transformer
    net.set_submodule("x_embedder", net.x_embedder.base)
    net.to(torch.bfloat16).save_pretrained(folder / "transformer")
    save_flux_vae(folder / "vae")
    save_t5(folder / "text_encoder_2", folder / "tokenizer_2")
    clip = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, bos_token_id=2)
    CLIPTextModel(CLIPTextConfig(**clip, eos_token_id=2, vocab_size=4, max_position_embeddings=8)).save_pretrained(
        folder / "text_encoder"
    )
    letters().save_pretrained(folder / "tokenizer")


def save_flux_vae(folder: Path) -> None:
    save_vae(build_vae(VAEConfig(channels=4, block_channels=(8, 8, 8, 8), norm_groups=4)), folder)


def save_qwen(folder: Path) -> None:
    """A Qwen2 with a chat template that reads bytes, and so any text; its matrices have more rows than there are words."""
    alphabet = {letter: place for place, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
    )  # fmt: skip
    words.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    small = dict(
        hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1
    )
    Qwen2ForCausalLM(Qwen2Config(vocab_size=len(words) + 5, **small)).save_pretrained(folder)
    words.save_pretrained(folder)


def save_t5(encoder: Path, words: Path) -> None:
    config = T5Config(vocab_size=4, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, pad_token_id=1)
    T5EncoderModel(config).save_pretrained(encoder)
    letters().save_pretrained(words)


def letters() -> PreTrainedTokenizerFast:
    """Four words, of which all prompts consist."""
    backend = Tokenizer(models.WordLevel({"<unk>": 0, "<pad>": 1, "</s>": 2, "a": 3}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", pad_token="<pad>", eos_token="</s>")


def noise(width: int, height: int) -> Image.Image:
    """Coarse noise, which a tokenizer tells apart."""
    return Image.effect_noise((8, 6), 90).resize((width, height)).convert("RGB")


def save_imagenet(folder: Path, number: int) -> None:
    """Class folders of what ImageNet holds: any size, small ones, grey, CMYK, turned by EXIF, and PNG called JPEG."""
    turned = Image.Exif()
    turned[0x0112] = 6
    kinds = [
        lambda path: noise(75, 50).save(path, "JPEG"),
        lambda path: noise(33, 81).convert("L").save(path, "JPEG"),
        lambda path: noise(90, 67).convert("CMYK").save(path, "JPEG"),
        lambda path: noise(128, 65).save(path, "JPEG", exif=turned),
        lambda path: noise(40, 40).quantize(16).save(path, "PNG"),
        lambda path: noise(64, 64).save(path, "JPEG"),
    ]
    for place in range(number):
        kind = folder / f"n0144{place % 3}"
        kind.mkdir(parents=True, exist_ok=True)
        name = f"ILSVRC2012_val_{place:08d}" if folder.name == "val" else f"{kind.name}_{place}"
        kinds[place % len(kinds)](kind / f"{name}.JPEG")


def save_mjhq(folder: Path) -> None:
    """Two pictures a category, in place of 3,000."""
    entries = {}
    for category in mjhq.CATEGORIES:
        (folder / "imgs" / category).mkdir(parents=True)
        for place in range(2):
            entries[f"{category}{place}"] = {"category": category, "prompt": f"a {category} " + "a " * place}
            noise(70 + place, 66).save(folder / "imgs" / category / f"{category}{place}.jpg")
    (folder / "meta_data.json").write_text(json.dumps(entries))
