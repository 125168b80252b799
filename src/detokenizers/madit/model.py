"""MaDiT: images from discrete tokens by a masked autoregressive transformer that draws easy patches first.

tokens (and captions) -order, rounds-> context of the next patches -head-> their latents, visible from then on
-after the last round-> VAE decoder -> images
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from ..checkpoint import fingerprint, load_into, save_tensors, write_text
from ..config import Config
from ..decoder import require_same_codes
from ..flow.noise import noise as draw_noise
from ..flow.solvers import OnStep, Progress
from ..hub.on_hub import OnHub
from ..protocols import Observe, VisualTokenizer, VisualTokens
from .distributions import Hard, TokenInput
from .heads import Decoding, Flow, Head, HeadConfig
from .masked import MaskedTransformer, TrunkConfig
from .orders import PATCH_KL, ConstantWeight, GuidanceWeight, Order, reveal
from .tokenizer import CodedPatches, CodesConfig, TokenizerConfig, load_codes
from .vocabulary import Vocabulary, Words

CONFIG, WEIGHTS, TOKENIZER, VOCABULARY = "decoder.yaml", "decoder.safetensors", "tokenizer", "words"


class Sampling(Config):
    """How images are drawn; all of it may change after training."""

    rounds: int = Field(default=64, ge=1)
    """Rounds of Algorithm 1."""
    # PAPER GAP (docs/madit.md#guidance): the weight is not given.
    guidance: GuidanceWeight = ConstantWeight()
    order: Order = Order()
    decoding: Decoding = Flow()


class MaDiTConfig(Config):
    """Every choice that decides what a MaDiT computes, in the order of the data; the defaults are the paper's."""

    kind: Literal["madit"] = "madit"
    codes: CodesConfig = TokenizerConfig()
    input: TokenInput = Hard()
    words: str | None = None
    """Folder of a table of words (`mini/words` is embedded); none where no text is read."""
    words_learn: bool = False
    """Let the words learn in stage 1 too: a control of Table 2b. The paper's are frozen."""
    word_length: int = Field(default=128, ge=1)
    """The longest caption in words; of a language model's pieces, how many are read."""
    trunk: TrunkConfig = TrunkConfig()
    head: HeadConfig = HeadConfig()
    sampling: Sampling = Sampling()

    def build(self, codes: CodedPatches | None = None, vocabulary: Vocabulary | None = None) -> MaDiT:
        """A model with random weights.

        Raises:
            ValueError: text is to be read but there is no table of words.
        """
        if self.trunk.text != "none" and vocabulary is None:
            if self.words is None:
                raise ValueError(f"text {self.trunk.text!r} needs a table of words; set words, or trunk.text to none")
            vocabulary = Vocabulary.load(self.words, self.word_length, learn=self.words_learn)
        return MaDiT(self, self.codes.build() if codes is None else codes, vocabulary)


class MaDiT(nn.Module, OnHub):
    """A decoder of tokens. Calling it gives images [b 3 h w] in [-1, 1]."""

    source: Literal["tokens"] = "tokens"
    fp32 = ("codes.codewords",)

    def __init__(self, config: MaDiTConfig, codes: CodedPatches, vocabulary: Vocabulary | None) -> None:
        super().__init__()
        self.config = config
        self.codes = codes
        self.vocabulary = vocabulary if config.trunk.text != "none" else None
        features = config.input.num_features(codes.config.dim)
        word_dim = 0 if self.vocabulary is None else self.vocabulary.rows.shape[1]
        self.trunk = MaskedTransformer(config.trunk, codes.layout, features, codes.patch_dim, word_dim)
        self.head = Head(config.head, config.trunk.width, codes.patch_dim)

    @torch.no_grad()
    def forward(
        self,
        tokens: VisualTokens,
        *,
        steps: int | None = None,
        seeds: Sequence[int] | None = None,
        progress: Progress | None = None,
    ) -> Float[Tensor, "b 3 h w"]:
        """Draw tokens; image i depends on its tokens, their caption if words are read, and `seeds[i]` alone.

        `steps` are rounds of Algorithm 1, by default those of the config.
        """
        return self.decode(self.latents(tokens, steps=steps, seeds=seeds, progress=progress))

    def decode(
        self, latents: Float[Tensor, "b n d"], *, seeds: Sequence[int] | None = None
    ) -> Float[Tensor, "b 3 h w"]:
        """Images of patches of latents."""
        return self.codes.draw(latents)

    def latents(
        self,
        tokens: VisualTokens,
        *,
        steps: int | None = None,
        seeds: Sequence[int] | None = None,
        progress: Progress | None = None,
        guidance: float | None = None,
        on_step: OnStep | None = None,
    ) -> Float[Tensor, "b n d"]:
        """The patches of latents that Algorithm 1 draws, with the config's guidance unless given; `on_step` is called after
        every round, its t being the share of patches that were still to be drawn."""
        rounds = self.rounds(tokens, steps=steps, seeds=seeds, guidance=guidance, on_step=on_step)
        count = self.steps if steps is None else max(1, steps)  # none at all is refused by the first
        ((_, patches),) = deque(zip((progress or iter)(range(count)), rounds), maxlen=1)
        if not bool(torch.isfinite(patches).all()):
            raise ValueError(
                "the drawn latents are not finite: these weights are damaged, or their precision overflows"
            )
        return patches

    @torch.no_grad()
    def rounds(
        self,
        tokens: VisualTokens,
        *,
        steps: int | None = None,
        seeds: Sequence[int] | None = None,
        guidance: float | None = None,
        on_step: OnStep | None = None,
    ) -> Iterator[Float[Tensor, "b n d"]]:
        """The patches after each round of Algorithm 1; those not drawn yet are zero, the mean of latents."""
        sampling, codes = self.config.sampling, self.codes
        self._require_fit(tokens)
        seeds = range(len(tokens.ids)) if seeds is None else seeds
        device = self.trunk.patch_positions.device
        features = self.config.input(codes, tokens).to(device)
        read, texts = self.vocabulary, tokens.captions
        words = None if read is None or texts is None else read(texts)
        noise = draw_noise((codes.layout.patches.size, codes.patch_dim), seeds, device=device)  # by patch, not by order
        order = sampling.order(codes, tokens, seeds).to(device)
        patches = torch.zeros_like(noise)
        for number, (visible, chosen) in enumerate(reveal(order, sampling.rounds if steps is None else steps)):
            weight = sampling.guidance(visible.shape[1] + chosen.shape[1], order.shape[1])
            weight = weight if guidance is None else guidance
            context, dummy = self._contexts(features, patches, visible, words, chosen, guided=weight != 1)
            where = chosen[..., None].expand(-1, -1, codes.patch_dim)
            drawn = sampling.decoding(self.head, context, dummy, weight, noise.gather(1, where))
            patches = patches.scatter(1, where, drawn.to(patches))  # visible from here on, and never drawn again
            if on_step:
                patches = on_step(number, torch.tensor(1 - visible.shape[1] / order.shape[1]), patches)
            yield patches

    def _contexts(
        self, features: Tensor, patches: Tensor, visible: Tensor, words: Words | None, chosen: Tensor, *, guided: bool
    ) -> tuple[Tensor, Tensor | None]:
        """The context of the chosen patches, and the one of guidance's unconditional side, in one pass."""
        if not guided:
            return self.trunk(features, patches, visible, words, wanted=chosen), None
        dropped = torch.arange(2 * len(features), device=features.device) >= len(features)
        twice = [part.repeat(2, *(1,) * (part.ndim - 1)) for part in (features, patches, visible, chosen)]
        words = None if words is None else words.repeated(2)
        context, dummy = self.trunk(*twice[:3], words, dropped, twice[3]).chunk(2)
        return context, dummy

    @property
    def steps(self) -> int:
        return self.config.sampling.rounds

    @property
    def options(self) -> frozenset[str]:
        """What `latents` takes beside steps and seeds, and whether captions of tokens are read."""
        return frozenset({"guidance"} if self.vocabulary is None else {"guidance", "captions"})

    @property
    def observers(self) -> Mapping[str, Observe]:
        """What is to be kept of the guided logits while a VLM samples."""
        return self.config.input.observers(self.codes)

    @property
    def needs(self) -> frozenset[str]:
        return frozenset(self.observers)

    @torch.no_grad()
    def read(self, images: Float[Tensor, "b 3 h w"], tokenizer: VisualTokenizer) -> VisualTokens:
        """Images to tokens, with the KL of their own patches beside them for the oracle order."""
        self.require(tokenizer)
        ids = tokenizer.tokens(tokenizer.features(images))
        kl = self.codes.layout.by_token(self.codes.read(images).kl)
        decided = {name: self.config.input.decided(self.codes, ids) for name in self.observers}
        return VisualTokens(ids, tokenizer.grid, {PATCH_KL: kl, **decided})  # pyright: ignore[reportArgumentType]

    def require(self, tokenizer: VisualTokenizer) -> None:
        """Refuse the tokens of another tokenizer.

        Raises:
            ValueError: its grid or its codes are others.
        """
        if tokenizer.grid != self.codes.grid:
            raise ValueError(f"this MaDiT decodes {self.codes.grid} tokens, the tokenizer draws {tokenizer.grid}")
        try:
            require_same_codes(self.codes.codebook, tokenizer)
        except ValueError as error:
            raise ValueError(f"{error} (that of mini/madit is mini/madit-llm)") from None

    def fingerprint(self) -> str:
        """Of weights and settings that decide pixels."""
        settings = self.config.model_dump_json(exclude={"words", "words_learn", "codes"}) + self.codes.fingerprint()
        settings += "" if self.vocabulary is None else self.vocabulary.fingerprint()
        return fingerprint(self.learned() | {"settings": torch.tensor(list(settings.encode()))})

    def learned(self) -> dict[str, Tensor]:
        """The tensors of trunk and head."""
        return {name: value for name, value in self.state_dict().items() if name.startswith(("trunk.", "head."))}

    def save(self, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
        """Write config, tokenizer, words and weights."""
        folder = Path(folder)
        self.codes.save(folder / TOKENIZER)
        if self.vocabulary is not None:
            self.vocabulary.save(folder / VOCABULARY)
        save_tensors(folder / WEIGHTS, self.learned(), dtype=dtype)
        write_text(folder / CONFIG, self.config.to_yaml())

    @classmethod
    def load(cls, folder: str | Path) -> MaDiT:
        """Read a saved model back, frozen and ready to draw.

        Raises:
            ValueError: a file is missing, damaged, or belongs to another config.
        """
        folder = Path(folder)
        config = MaDiTConfig.from_yaml(folder / CONFIG)
        vocabulary = None
        if config.trunk.text != "none":
            vocabulary = Vocabulary.load(folder / VOCABULARY, config.word_length)
        model = config.build(load_codes(folder / TOKENIZER), vocabulary)
        load_into(nn.ModuleDict({"trunk": model.trunk, "head": model.head}), folder / WEIGHTS)
        return model.requires_grad_(False).eval()

    def _require_fit(self, tokens: VisualTokens) -> None:
        if tokens.grid != self.codes.grid:
            raise ValueError(f"this MaDiT decodes {self.codes.grid} tokens, these are {tokens.grid}")
        ids, known = tokens.ids, self.codes.config.codes
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < known:
            raise ValueError(
                f"token ids run from {int(ids.min())} to {int(ids.max())}; this codebook has {known} codes"
            )
