"""MaDiT's visual tokenizer: a frozen VAE's latents through a small adapter to codes of a learned codebook.

images -VAE-> latents -adapter-> vectors [b l d] -nearest unit row-> ids [b l] ; ids -mean latents of codewords-> images
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from ..checkpoint import fingerprint, load_tensors, save_tensors, write_text
from ..config import Config
from ..data.encoded import reader_fingerprint
from ..nn.codebook import Averages, Codebook, Rule, nearest
from ..pretrained.spaces import VAE, PretrainedVAE, save_vae
from ..protocols import Grid, ImageSpace
from .adapter import AdapterConfig
from .codewords import Codewords
from .patches import Layout, latent_kl, patch_kl, patchify, posterior, unpatchify

CONFIG, WEIGHTS, CODEWORDS, SPACE = "tokenizer.yaml", "tokenizer.safetensors", "codewords.safetensors", "space"


class PatchConfig(Config):
    """How an image becomes patches of latents under a grid of tokens."""

    space: PretrainedVAE = PretrainedVAE(name="black-forest-labs/FLUX.1-schnell", subfolder="vae")
    """One autoencoder encodes, gives the KL divergence and decodes (contradiction C1 of the paper)."""
    image_size: int = Field(default=512, ge=8)
    patch: int = Field(default=2, ge=1)
    """Side, in latents, of a patch."""
    token_stride: int = Field(default=1, ge=1)
    """Side, in patches, of the square under one token; the paper's is 1."""
    codes: int = Field(default=65_536, ge=2)
    dim: int = Field(default=32, ge=2)
    """Width of a code; narrow unit codes stay in use."""


class TokenizerConfig(PatchConfig):
    """MaDiT's own codes: every choice that decides which ids an image has."""

    kind: Literal["own"] = "own"
    commitment: float = Field(default=0.25, ge=0)
    rule: Rule = Averages()
    """How codes learn."""
    adapter: AdapterConfig = AdapterConfig()

    def build(self, space: ImageSpace | None = None) -> MaDiTTokenizer:
        """A tokenizer with random adapter and codes; `space`, if it is loaded already, is the one of the config."""
        return MaDiTTokenizer(self, self.space.build() if space is None else space)


class BorrowedConfig(PatchConfig):
    """The codes of another tokenizer, Janus' for example, so that MaDiT decodes what its VLM draws (spec 4.1.5)."""

    kind: Literal["borrowed"] = "borrowed"

    def build(self, space: ImageSpace | None = None) -> BorrowedCodes:
        """Empty codes, to be filled with those of the tokenizer."""
        return BorrowedCodes(self, self.space.build() if space is None else space)


CodesConfig = Annotated[TokenizerConfig | BorrowedConfig, Field(discriminator="kind")]


class Saved(Config):
    """What `tokenizer.yaml` holds."""

    codes: CodesConfig


class Read(NamedTuple):
    """An image as the model sees it: normalised latents of its patches, and their KL divergence in nats."""

    patches: Float[Tensor, "b n d"]
    kl: Float[Tensor, "b n"]


class CodedPatches(nn.Module, ABC):
    """What MaDiT must know of the tokens it decodes: their codes, the patches under them, and the codewords' tables."""

    config: TokenizerConfig | BorrowedConfig

    def __init__(self, config: TokenizerConfig | BorrowedConfig, space: ImageSpace) -> None:
        super().__init__()
        side, rest = divmod(config.image_size, space.stride * config.patch)
        if rest:
            raise ValueError(
                f"images of {config.image_size} px hold no whole number of patches of {space.stride * config.patch} px"
            )
        self.config, self.space = config, space
        self.image_size = config.image_size
        self.layout = Layout(Grid(side, side), config.token_stride)
        self.grid = self.layout.tokens
        self.patch_dim = space.channels * config.patch**2
        self.codewords = Codewords(config.codes, self.layout.parts, self.patch_dim)

    @property
    @abstractmethod
    def codebook(self) -> Float[Tensor, "v d"]:
        """Unit rows."""

    @abstractmethod
    def units(self, batch: Mapping[str, Tensor]) -> Float[Tensor, "b l d"]:
        """Unit vectors of a training batch, before rounding."""

    @torch.no_grad()
    def ids(self, batch: Mapping[str, Tensor]) -> Int[Tensor, "b l"]:
        """Tokens of a training batch, those of its images: computed one by one, since rounding follows the batch."""
        codebook = self.codebook
        moved = {name: value.to(codebook.device) for name, value in batch.items()}
        items = ({name: value[i : i + 1] for name, value in moved.items()} for i in range(len(batch["patches"])))
        return torch.cat([nearest(self.units(item), codebook) for item in items])

    def learned(self) -> dict[str, Tensor]:
        """The tensors that a folder must hold beside the codewords' tables."""
        return {"codebook": self.codebook}

    @abstractmethod
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take in what `learned` gave."""

    @torch.no_grad()
    def read(self, images: Float[Tensor, "b 3 h w"]) -> Read:
        """Latents and KL divergence of images.

        Raises:
            ValueError: images of another size, or an autoencoder without a posterior.
        """
        seen = posterior(self.space, self._sized(images))
        patches = patchify(seen.mean, self.config.patch)
        return Read(patches, patch_kl(latent_kl(self.space, seen), self.config.patch))

    @torch.no_grad()
    def draw(self, patches: Float[Tensor, "b n d"]) -> Float[Tensor, "b 3 h w"]:
        """Images of patches of latents."""
        return self.space.decode(unpatchify(patches, self.layout.patches, self.config.patch))

    @torch.no_grad()
    def measure(self, batches: Iterable[tuple[Tensor, Tensor, Tensor]]) -> Float[Tensor, "v"]:
        """The exact pass over ids [b l], patches [b n d] and their KL [b n]; returns how often each code occurred."""

        def rows() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
            for ids, patches, kl in batches:
                nats, latents = self.layout.by_token(kl), self.layout.by_token(patches)
                yield ids.flatten(), nats.flatten(0, 1), latents.flatten(0, 1)

        counts = self.codewords.exact(rows())
        self.codewords.bind(self.fingerprint())
        return counts

    def fingerprint(self) -> str:
        """Of all that decides which ids an image has, and which patches lie under them."""
        statistics = torch.tensor([float(getattr(self.space, name, 0.0)) for name in ("scale", "shift")])
        sizes = torch.tensor([self.image_size, self.config.patch, self.config.token_stride])
        of_space = reader_fingerprint(self.space) if isinstance(self.space, nn.Module) else ""
        parts = {"statistics": statistics, "sizes": sizes, "space": torch.tensor(list(of_space.encode()))}
        return fingerprint(self.learned() | parts)

    def save(self, folder: str | Path) -> None:
        """Write config, codes and what is known of the codewords; a local autoencoder is copied along."""
        folder, config = Path(folder), self.config
        if isinstance(self.space, VAE) and Path(config.space.name).exists():
            save_vae(self.space.autoencoder, folder / SPACE)
            config = config.vary({"space.name": SPACE, "space.subfolder": None})
        save_tensors(folder / WEIGHTS, self.learned())
        save_tensors(folder / CODEWORDS, self.codewords.state_dict())
        write_text(folder / CONFIG, Saved(codes=config).to_yaml())

    def _sized(self, images: Tensor) -> Tensor:
        if images.shape[1:] != (3, self.image_size, self.image_size):
            raise ValueError(
                f"this tokenizer reads [b 3 {self.image_size} {self.image_size}] images, not {list(images.shape)}; "
                "resize and crop them first"
            )
        return images.to(self.codewords.kl.device)


class MaDiTTokenizer(CodedPatches):
    """A `VisualTokenizer` over the space of a frozen autoencoder, which is shared with whoever draws in it."""

    fp32 = ("adapter", "quantiser")

    def __init__(self, config: TokenizerConfig, space: ImageSpace) -> None:
        super().__init__(config, space)
        self.adapter = config.adapter.build(self.patch_dim, config.patch, config.token_stride, config.dim)
        self.quantiser: Codebook = config.rule.build(config.codes, config.dim, config.commitment)

    @property
    def codebook(self) -> Float[Tensor, "v d"]:
        return self.quantiser.rows().detach()

    def vectors(self, patches: Float[Tensor, "b n d"]) -> Float[Tensor, "b l d"]:
        """The adapter's vectors, before rounding to codes; gradients flow."""
        latents = unpatchify(patches, self.layout.patches, self.config.patch)
        return self.adapter(latents).flatten(2).mT

    def units(self, batch: Mapping[str, Tensor]) -> Float[Tensor, "b l d"]:
        return F.normalize(self.vectors(batch["patches"].float()).float(), dim=-1)

    @torch.no_grad()
    def features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n d"]:
        """Unit vectors in fp32. Images are computed one by one: a convolution's rounding depends on its batch, and ids
        are decided by the last digit now and then. One image of 512 px fills an accelerator."""
        singles = (patchify(self.space.encode(image), self.config.patch) for image in self._sized(images).split(1))
        return torch.cat([self.units({"patches": patches}) for patches in singles])

    @torch.no_grad()
    def tokens(self, features: Float[Tensor, "b n d"]) -> Int[Tensor, "b n"]:
        """The code with the largest cosine for every vector, image by image."""
        return torch.stack([self.quantiser.nearest(rows) for rows in features])

    @torch.no_grad()
    def decode(self, codes: Float[Tensor, "b n d"]) -> Float[Tensor, "b 3 h w"]:
        """What a plain decoder of these tokens draws: for each, the mean latents of its codeword.

        Raises:
            ValueError: codes of another shape, or the codewords' latents have not been computed.
        """
        if codes.shape[1:] != (self.grid.size, self.config.dim):
            raise ValueError(
                f"this tokenizer decodes [b {self.grid.size} {self.config.dim}] codes, not {list(codes.shape)}"
            )
        ids = self.tokens(F.normalize(codes.float(), dim=-1))
        return self.draw(self.layout.by_patch(self.codewords.lookup(self.codewords.latents, ids)))

    def learned(self) -> dict[str, Tensor]:
        adapter = {f"adapter.{name}": value for name, value in self.adapter.state_dict().items()}
        return adapter | super().learned()

    def restore(self, tensors: dict[str, Tensor]) -> None:
        adapter = {name.removeprefix("adapter."): value for name, value in tensors.items() if name != "codebook"}
        self.adapter.load_state_dict(adapter)
        # The rule decided how codes learnt; what is left of it are the rows.
        self.quantiser = Averages().build(self.config.codes, self.config.dim, self.quantiser.commitment)
        self.quantiser.load_state_dict({"book": tensors["codebook"]}, strict=False)


class BorrowedCodes(CodedPatches):
    """The frozen codes of another `VisualTokenizer`, which reads the images; here are the latents that go with them."""

    fp32 = ("rows",)
    rows: Tensor

    def __init__(self, config: BorrowedConfig, space: ImageSpace) -> None:
        super().__init__(config, space)
        self.register_buffer("rows", torch.zeros(config.codes, config.dim))

    @property
    def codebook(self) -> Float[Tensor, "v d"]:
        return self.rows

    def units(self, batch: Mapping[str, Tensor]) -> Float[Tensor, "b l d"]:
        return batch["features"].float()

    def restore(self, tensors: dict[str, Tensor]) -> None:
        self.load_state_dict({"rows": tensors["codebook"]}, strict=False)


def load_codes(folder: str | Path) -> CodedPatches:
    """Read saved codes back, frozen.

    Raises:
        ValueError: a file is missing or damaged, or the codewords' table is of another tokenizer.
    """
    folder = Path(folder)
    config = Saved.from_yaml(folder / CONFIG).codes
    if (folder / config.space.name).exists():
        config = config.vary({"space.name": str(folder / config.space.name)})
    codes, tensors, known = config.build(), load_tensors(folder / WEIGHTS), load_tensors(folder / CODEWORDS)
    if "codebook" not in tensors:
        raise ValueError(f"{folder / WEIGHTS} holds no codebook")
    try:
        codes.restore(tensors)
        codes.codewords.load_state_dict(known)
    except RuntimeError as error:
        raise ValueError(f"{folder} does not fit its {CONFIG}: {str(error).splitlines()[-1].strip()}") from None
    codes.codewords.require(codes.fingerprint(), str(folder / CODEWORDS))
    return codes.requires_grad_(False).eval()
