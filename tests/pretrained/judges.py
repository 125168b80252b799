"""The benchmarks' judges at tiny random size, in the real classes and on disk as the published ones are."""

from __future__ import annotations

import string
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTokenizer,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    SwinConfig,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

SPECIAL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
WORDS = ["<unk>", "yes", "Yes", "no", "No", "system", "user", "assistant", "Answer", "or", "Is", "there", "a", "dog?"]


def mask2former(num_labels: int = 80) -> Mask2FormerForUniversalSegmentation:
    """A detector of a few queries."""
    torch.manual_seed(0)
    swin = SwinConfig(
        image_size=32, patch_size=4, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], window_size=2,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = Mask2FormerConfig(
        backbone_config=swin, feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=32,
        encoder_layers=1, decoder_layers=2, num_attention_heads=2, dim_feedforward=16, num_queries=5,
        num_labels=num_labels,
    )  # fmt: skip
    return Mask2FormerForUniversalSegmentation(config)


def words(leave_out: tuple[str, ...] = ()) -> PreTrainedTokenizerFast:
    """A tokenizer of the few words a question needs, with Qwen's special tokens."""
    names = [name for name in [*WORDS, *SPECIAL] if name not in leave_out]
    backend = Tokenizer(models.WordLevel({name: place for place, name in enumerate(names)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", pad_token="<|endoftext|>", additional_special_tokens=SPECIAL
    )


def save_examiner(folder: Path, tokenizer: PreTrainedTokenizerFast | None = None) -> Path:
    """A Qwen2.5-VL with its tokenizer and image processor."""
    torch.manual_seed(0)
    tokenizer = tokenizer or words()
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL}
    text = dict(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=128,
        rope_parameters={"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4},
    )  # fmt: skip
    vision = dict(depth=1, hidden_size=16, intermediate_size=16, num_heads=2, patch_size=4, out_hidden_size=16,
                  window_size=16, fullatt_block_indexes=[0])  # fmt: skip
    config = Qwen2_5_VLConfig(
        text_config=text, vision_config=vision, image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"], vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )  # fmt: skip
    Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    Qwen2VLImageProcessorPil(patch_size=4, size={"shortest_edge": 64, "longest_edge": 4096}).save_pretrained(folder)
    return folder


def save_detector(folder: Path) -> Path:
    """The detector on disk."""
    mask2former().save_pretrained(folder)
    return folder


def save_clip(folder: Path) -> Path:
    """A CLIP of single letters, with a window long enough for GenEval's templates."""
    letters = [*string.ascii_lowercase, *(f"{letter}</w>" for letter in string.ascii_lowercase), "-</w>", "-"]
    names = [*letters, "<|startoftext|>", "<|endoftext|>"]
    small = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    text = small | dict(
        vocab_size=len(names), max_position_embeddings=64, bos_token_id=len(names) - 2, eos_token_id=len(names) - 1
    )
    torch.manual_seed(0)
    config = CLIPConfig(text_config=text, vision_config=small | dict(image_size=28, patch_size=14), projection_dim=8)
    CLIPModel(config).save_pretrained(folder)
    CLIPTokenizer(vocab={name: place for place, name in enumerate(names)}, merges=[]).save_pretrained(folder)
    return folder
