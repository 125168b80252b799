"""The four runs that make the mini stack, each a config whose `job()` builds the real classes at their small size.

WorldNetRun -> TokenizerRun, AutoencoderRun -> VLMRun ; the decoder on top is a DCDD recipe.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..checkpoint import resolve, save_tensors, write_text
from ..config import Config
from ..data.encoded import encoded, reader_fingerprint
from ..data.images import to_tensor
from ..data.sources import Scenes, shuffled_rows
from ..data.world.objects import COLOURS
from ..data.world.world import Split, World, WorldConfig
from ..evaluation.world_judge import load_world_net
from ..nn.world_net import WorldNet, WorldNetConfig
from ..pretrained.spaces import VAE, VAEConfig, build_vae, save_vae, set_statistics
from ..pretrained.vlm.janus_size import JanusSize, build_janus, special_ids
from ..pretrained.vlm.word_tokenizer import word_tokenizer
from ..pretrained.vq import JanusVQ
from ..pretrained.vq_weights import build_vq, load_vq, save_vq
from ..training import Job, TrainConfig
from ..training.processes import computing_device
from .adversarial import AdversaryConfig
from .autoencoder import AutoencoderObjective
from .judge import WorldNetObjective
from .tokenizer import TokenizerObjective
from .vlm_objective import VLMObjective

PREVIEW = 16
HELD = 64
"""Validation scenes whose loss is logged beside that of the training scenes."""


class MiniRun(Config):
    """What every part of the mini stack is trained with."""

    recipe: str
    world: WorldConfig = WorldConfig()
    train: TrainConfig = TrainConfig()


class WorldNetRun(MiniRun):
    """The classifier that judges."""

    widths: tuple[int, ...] = (32, 64, 128)

    def job(self) -> Job:
        torch.manual_seed(self.train.seed)
        world = World(self.world)
        net = WorldNet(
            WorldNetConfig(
                nouns=len(world.nouns),
                colours=len(COLOURS),
                backgrounds=len(world.backgrounds),
                resolution=self.world.resolution,
                widths=self.widths,
            )
        )

        def labelled(seeds: range, split: Split = "train") -> dict[str, Tensor]:
            pixels, scenes = world.batch(seeds, split)
            labels = [world.labels(scene.truth) for scene in scenes]
            columns = {
                name: torch.from_numpy(np.stack([row[name] for row in labels]))
                for name in ("counts", "colours", "centres", "background")
            }
            return {"images": to_tensor(pixels), **columns}

        def export(objective: torch.nn.Module, folder: Path) -> None:
            save_tensors(folder / "world_net.safetensors", net.state_dict(), dtype=torch.float16)
            write_text(folder / "world_net.yaml", net.config.to_yaml())

        return Job(
            WorldNetObjective(net.to(memory_format=torch.channels_last)),  # pyright: ignore[reportCallIssue]
            lambda part, size: labelled(range(part * size, (part + 1) * size)),
            export,
            held_out=lambda: labelled(range(HELD), "validation"),
        )


class TokenizerRun(MiniRun):
    """The VLM's own visual tokenizer, trained as real ones are: L1, edges, perceptual, adversarial if asked."""

    size: JanusSize
    judge: str = "mini/world_net"
    perceptual: float = 0.05
    keep_codes: str | None = None
    """Folder of a tokenizer whose tokens stay what they are while its decoder learns on; none trains all anew."""
    adversary: AdversaryConfig = AdversaryConfig()

    def job(self) -> Job:
        torch.manual_seed(self.train.seed)
        world = World(self.world)
        vq = load_vq(resolve(self.keep_codes)) if self.keep_codes else build_vq(self.size)
        scenes = Scenes(world, self.train.steps * self.train.batch_size)
        objective = TokenizerObjective(
            vq,
            load_world_net(self.judge),
            keep_codes=bool(self.keep_codes),
            perceptual=self.perceptual,
            adversary=self.adversary.build(),
        )
        held = Scenes(world, HELD, "validation").images(range(HELD))

        @torch.no_grad()
        def preview(_: torch.nn.Module) -> Tensor:
            tokenizer, shown = JanusVQ(copy.deepcopy(objective.tokenizer())), held[:PREVIEW]
            drawn = tokenizer.decode_ids(tokenizer.tokens(tokenizer.features(shown)))
            return torch.cat([shown, drawn.cpu()])

        return Job(
            objective,
            lambda part, size: {"images": scenes.images(range(part * size, (part + 1) * size))},
            lambda _, folder: save_vq(objective.tokenizer(), folder),
            preview,
            lambda name: self.adversary.pace if name.startswith("adversary.") else 1.0,
            lambda: {"images": held},
        )


class AutoencoderRun(MiniRun):
    """The latent space decoders draw in."""

    vae: VAEConfig
    kl: float = 3e-4
    judge: str = "mini/world_net"
    perceptual: float = 0.0
    keep_latents: str | None = None
    """Folder of an autoencoder whose latents stay what they are while its decoder learns on; none trains all anew."""

    def job(self) -> Job:
        torch.manual_seed(self.train.seed)
        world = World(self.world)
        vae = VAE.from_pretrained(resolve(self.keep_latents)).autoencoder if self.keep_latents else build_vae(self.vae)
        scenes = Scenes(world, self.train.steps * self.train.batch_size)
        objective = AutoencoderObjective(
            vae,
            load_world_net(self.judge) if self.perceptual else None,
            kl=self.kl,
            perceptual=self.perceptual,
            keep_latents=bool(self.keep_latents),
        )
        held = Scenes(world, HELD, "validation").images(range(HELD))

        def latents_of(images: Tensor) -> Tensor:
            encoded_as: Any = vae.encode(images.to(vae.device))
            return encoded_as.latent_dist.mean

        @torch.no_grad()
        def preview(_: torch.nn.Module) -> Tensor:
            shown = held[:PREVIEW]
            latents: Any = latents_of(shown)
            drawn: Any = vae.decode(latents)
            return torch.cat([shown, drawn.sample.cpu()])

        @torch.no_grad()
        def export(_: torch.nn.Module, folder: Path) -> None:
            if not self.keep_latents:
                latents = torch.cat([latents_of(scenes.images(range(i, i + 64))) for i in range(0, 512, 64)])
                set_statistics(vae, latents.mean().item(), latents.std().item())
            save_vae(vae, folder)

        return Job(
            objective,
            lambda part, size: {"images": scenes.images(range(part * size, (part + 1) * size))},
            export,
            preview,
            held_out=lambda: {"images": held},
        )


class VLMRun(MiniRun):
    """The mini VLM: draws from captions and describes images, over the frozen tokenizer's ids."""

    size: JanusSize
    tokenizer: str = "mini/vlm"
    """Folder of the trained visual tokenizer."""
    scenes: int = 65536
    """Scenes encoded once and then revisited in an order that changes every epoch."""
    cache: str = "out/cache"
    describe: float = 0.15
    """Share of each batch that is also captioned (image -> text)."""
    describe_weight: float = 0.2
    """Of the loss of captions beside that of image tokens."""
    guidance: float = 2.5
    """What it will draw with unless told otherwise (docs/log.md has the sweep); training does not use it."""

    def job(self) -> Job:
        torch.manual_seed(self.train.seed)
        world = World(self.world)
        words = word_tokenizer(world.vocabulary)
        ids = special_ids(words)
        model = build_janus(self.size.vary(vocabulary=len(words)), words)
        model.generation_config.guidance_scale = self.guidance
        vq = JanusVQ(load_vq(resolve(self.tokenizer)))
        model.model.vqmodel.load_state_dict(vq.model.state_dict())
        with torch.no_grad():  # the drawing side starts from the codes themselves, as tied embeddings would
            model.model.generation_embeddings.weight.copy_(vq.codebook)
        scenes = Scenes(world, self.scenes)
        folder = (
            Path(self.cache) / f"tokens-{reader_fingerprint(vq)[:12]}-{self.world.fingerprint()[:12]}-{self.scenes}"
        )
        vq.to(computing_device())

        def encode(images: Tensor, rows: Sequence[int]) -> dict[str, Tensor]:
            return {"tokens": vq.tokens(vq.features(images)).to(torch.int16)}

        tokens = encoded(scenes, encode, folder, workers=self.train.workers)

        def both_ways(captions: list[str], tokens: Tensor, images: Callable[[int], Tensor]) -> dict[str, Tensor]:
            drawn = [[ids["bos"], *words.encode(text, add_special_tokens=False), ids["boi"]] for text in captions]
            shown = max(1, round(len(drawn) * self.describe))
            told = [[ids["bos"], *row[1:-1], ids["eos"]] for row in drawn[:shown]]
            return {
                "words": _padded(drawn, ids["pad"], left=True),
                "tokens": tokens.long(),
                "images": images(shown),
                "described": _padded(told, ids["pad"], left=False),
            }

        def batches(part: int, size: int) -> dict[str, Tensor]:
            rows = shuffled_rows(part, size, len(scenes))
            return both_ways(scenes.captions(rows), tokens[rows]["tokens"], lambda shown: scenes.images(rows[:shown]))

        def held_out() -> dict[str, Tensor]:
            held = Scenes(world, HELD, "validation")
            images = held.images(range(HELD))
            drawn = vq.tokens(vq.features(images.to(vq.codebook.device))).cpu()
            return both_ways(held.captions(range(HELD)), drawn, lambda shown: images[:shown])

        def export(_: torch.nn.Module, folder: Path) -> None:
            model.config.save_pretrained(folder)
            model.generation_config.save_pretrained(folder)
            words.save_pretrained(folder)
            save_tensors(folder / "model.safetensors", model.state_dict(), dtype=torch.float16)

        special = {name: ids[name] for name in ("pad", "bos", "eos", "boi")}
        return Job(VLMObjective(model, weight=self.describe_weight, **special), batches, export, held_out=held_out)


def _padded(rows: list[list[int]], pad: int, *, left: bool) -> Tensor:
    longest = max(map(len, rows))
    fill = [[pad] * (longest - len(row)) for row in rows]
    return torch.tensor([blank + row if left else row + blank for blank, row in zip(fill, rows)])
