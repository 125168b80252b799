"""Speed of a language model's visual words: our token loop beside transformers' `generate`, same greedy tokens, guided.

`generate` is asked for one image at a time, since its guidance takes no padded batch; ours draws the batch at once, and
multiplies only the visual rows of the head. Random weights of SmolLM2-135M's shape, grown by 1,024 visual words.

    python benchmarks/visual_words.py [--layers 30] [--batch 4] [--grid 8] [--repeats 1]

prompts -both-> tokens, equal ; milliseconds an image of this thread (of the device on CUDA), and their ratio
"""

from __future__ import annotations

import argparse

import torch
from row import report, setting, taking_turns
from torch import Tensor, nn
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, LogitsProcessor, LogitsProcessorList

from detokenizers.pretrained.vlm.visual_vocabulary import PlainPrompts, grow
from detokenizers.pretrained.vlm.visual_words import VisualWordsVLM
from detokenizers.pretrained.vlm.word_tokenizer import word_tokenizer
from detokenizers.protocols import Grid

SMOLLM2 = dict(
    vocab_size=49_152, hidden_size=576, intermediate_size=1536, num_attention_heads=9, num_key_value_heads=3,
    max_position_embeddings=8192, tie_word_embeddings=True,
)  # fmt: skip
CODES, GUIDANCE = 1024, 3.0
WORDS = word_tokenizer([f"word{number}" for number in range(40)])


class Codes(nn.Module):
    """All that the loop reads of a visual tokenizer."""

    image_size = 64

    def __init__(self, side: int) -> None:
        super().__init__()
        self.grid, self.codebook = Grid(side, side), torch.eye(CODES)


class VisualOnly(LogitsProcessor):
    """Nothing but visual words."""

    def __init__(self, first: int) -> None:
        self.first = first

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # pyright: ignore
        mask = torch.full_like(scores, float("-inf"))
        mask[:, self.first : self.first + CODES] = 0
        return scores + mask


@torch.no_grad()
def theirs(vlm: VisualWordsVLM, prompts: list[str]) -> Tensor:
    """One image after another."""
    first, rows = vlm.vocabulary.first, []
    for prompt in prompts:
        ids, empty = (torch.tensor([vlm.vocabulary.spelt(vlm.words, text)], device=vlm.device) for text in (prompt, ""))
        how = GenerationConfig(
            do_sample=False, max_new_tokens=vlm.tokenizer.grid.size, top_k=0, top_p=1.0, temperature=1.0, num_beams=1,
            repetition_penalty=1.0, eos_token_id=vlm.vocabulary.eoi, pad_token_id=0, guidance_scale=GUIDANCE,
        )  # fmt: skip
        only = LogitsProcessorList([VisualOnly(first)])
        drawn = vlm.model.generate(ids, generation_config=how, logits_processor=only, negative_prompt_ids=empty,
                                   attention_mask=torch.ones_like(ids))  # fmt: skip
        rows.append(drawn[0, ids.shape[1] :] - first)
    return torch.stack(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="Visual words beside transformers' generate.")
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--grid", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    device = torch.device(args.device)
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(num_hidden_layers=args.layers, initializer_range=0.1, **SMOLLM2))
    vocabulary = grow(model, CODES, prompts=PlainPrompts(), guidance=GUIDANCE)
    vlm = VisualWordsVLM(model, WORDS, vocabulary, Codes(args.grid)).to(device)
    prompts = [" ".join(f"word{(7 * row + k) % 40}" for k in range(6 + row)) for row in range(args.batch)]

    def ours() -> Tensor:
        return vlm.generate(prompts, seeds=range(len(prompts)), greedy=True, batch_size=args.batch).ids

    equal = torch.equal(theirs(vlm, prompts), ours())
    runs = {"generate": lambda: theirs(vlm, prompts), "ours": ours}
    clock = 0 if device.type == "cuda" else 1
    times = {
        name: each[clock] / args.batch for name, each in taking_turns(runs, device, args.repeats, warm_up=0).items()
    }
    report(
        setting(
            "visual_words", device, torch.float32, batch=args.batch, resolution=None, repeats=args.repeats, warm_up=1,
            packages=("torch", "transformers"),
        ),
        {"weights": sum(parameter.numel() for parameter in model.parameters()), "tokens": args.grid**2},
        {f"{name}_ms": round(each, 1) for name, each in times.items()},
        {"ratio": round(times["generate"] / times["ours"], 2), "tokens_equal": equal},
    )  # fmt: skip


if __name__ == "__main__":
    main()
