"""The four runs that make the mini stack, each a config whose `job()` builds the real classes at their small size.

WorldNetRun -> TokenizerRun, AutoencoderRun -> VLMRun ; the decoder on top is a DCDD recipe.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from ..checkpoint import resolve, save_tensors, write_text
from ..data.encoded import reader_fingerprint
from ..data.sources import Scenes, shuffled_rows
from ..data.world.objects import COLOURS
from ..data.world.world import Split, World, WorldConfig
from ..nn.world_net import WorldNet, WorldNetConfig, load_world_net
from ..pixels import to_tensor
from ..pretrained.spaces import VAE, VAEConfig, build_vae, save_vae, set_statistics
from ..pretrained.vlm.janus_size import JanusSize, build_janus, special_ids
from ..pretrained.vlm.word_tokenizer import word_tokenizer
from ..pretrained.vq import JanusVQ
from ..pretrained.vq_weights import build_vq, load_vq, save_vq
from ..training import CachedRun, Job, Run
from ..training.job import Pace
from .adversarial import AdversaryConfig
from .autoencoder_objective import AutoencoderObjective
from .tokenizer_objective import TokenizerObjective
from .vlm_objective import VLMObjective
from .world_net_objective import WorldNetObjective

PREVIEW = 16
HELD = 64
"""Validation scenes whose loss is logged beside that of the training scenes."""


class WorldNetRun(Run):
    """The classifier behind prompt agreement, FD-world and the perceptual loss."""

    world: WorldConfig = WorldConfig()
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

        def export(_: nn.Module, folder: Path) -> None:
            save_tensors(folder / "world_net.safetensors", net.state_dict(), dtype=torch.float16)
            write_text(folder / "world_net.yaml", net.config.to_yaml())

        return Job(
            WorldNetObjective(net.to(memory_format=torch.channels_last)),  # pyright: ignore[reportCallIssue]
            lambda part, size: labelled(range(part * size, (part + 1) * size)),
            export,
            held_out=lambda: labelled(range(HELD), "validation"),
        )


class ReconstructionRun(Run):
    """What the tokenizer and the latent space have in common: scenes that are drawn on demand and drawn again."""

    world: WorldConfig = WorldConfig()
    judge: str = "mini/world_net"
    """Folder of the WorldNet that the perceptual loss compares activations of."""
    perceptual: float = 0.0
    """Weight of the perceptual loss."""

    def training_scenes(self) -> Scenes:
        """One for every item of every step."""
        return Scenes(World(self.world), self.train.steps * self.train.batch_size)

    def reconstruction_job(
        self,
        objective: nn.Module,
        reconstruct: Callable[[Tensor], Tensor],
        export: Callable[[Path], None],
        pace: Pace = lambda name: 1.0,
    ) -> Job:
        scenes, held = self.training_scenes(), Scenes(World(self.world), HELD, "validation").images(range(HELD))

        @torch.no_grad()
        def preview(_: nn.Module) -> Tensor:
            return torch.cat([held[:PREVIEW], reconstruct(held[:PREVIEW]).cpu()])

        return Job(
            objective,
            lambda part, size: {"images": scenes.images(range(part * size, (part + 1) * size))},
            lambda _, folder: export(folder),
            preview,
            pace,
            lambda: {"images": held},
        )


class TokenizerRun(ReconstructionRun):
    """The VLM's own visual tokenizer, trained as real ones are: L1, edges, perceptual, adversarial on request."""

    size: JanusSize
    perceptual: float = 0.05
    """Weight of the perceptual loss."""
    keep_codes: str | None = None
    """Folder of a tokenizer whose tokens stay what they are while its decoder learns on; none trains all anew."""
    adversary: AdversaryConfig = AdversaryConfig()

    def job(self) -> Job:
        torch.manual_seed(self.train.seed)
        objective = TokenizerObjective(
            load_vq(resolve(self.keep_codes)) if self.keep_codes else build_vq(self.size),
            load_world_net(self.judge),
            keep_codes=bool(self.keep_codes),
            perceptual=self.perceptual,
            adversary=self.adversary.build(),
        )

        def reconstruct(images: Tensor) -> Tensor:
            tokenizer = JanusVQ(copy.deepcopy(objective.tokenizer()))
            return tokenizer.decode(tokenizer.codebook[tokenizer.tokens(tokenizer.features(images))])

        return self.reconstruction_job(
            objective,
            reconstruct,
            lambda folder: save_vq(objective.tokenizer(), folder),
            lambda name: self.adversary.pace if name.startswith("adversary.") else 1.0,
        )


class AutoencoderRun(ReconstructionRun):
    """The latent space decoders draw in."""

    vae: VAEConfig
    kl: float = 3e-4
    keep_latents: str | None = None
    """Folder of an autoencoder whose latents stay what they are while its decoder learns on; none trains all anew."""

    def job(self) -> Job:
        torch.manual_seed(self.train.seed)
        vae: Any = (
            VAE.from_pretrained(resolve(self.keep_latents)).autoencoder if self.keep_latents else build_vae(self.vae)
        )
        objective = AutoencoderObjective(
            vae,
            load_world_net(self.judge) if self.perceptual else None,
            kl=self.kl,
            perceptual=self.perceptual,
            keep_latents=bool(self.keep_latents),
        )

        def latents_of(images: Tensor) -> Tensor:
            return vae.encode(images.to(vae.device)).latent_dist.mean

        @torch.no_grad()
        def export(folder: Path) -> None:
            if not self.keep_latents:
                scenes = self.training_scenes()
                latents = torch.cat([latents_of(scenes.images(range(i, i + 64))) for i in range(0, 512, 64)])
                set_statistics(vae, latents.mean().item(), latents.std().item())
            save_vae(vae, folder)

        return self.reconstruction_job(objective, lambda images: vae.decode(latents_of(images)).sample, export)


class VLMRun(CachedRun):
    """The mini VLM: draws from captions and describes images, over the frozen tokenizer's ids."""

    world: WorldConfig = WorldConfig()
    size: JanusSize
    tokenizer: str = "mini/vlm"
    """Folder of the trained visual tokenizer."""
    scenes: int = 65536
    """Scenes encoded once and then revisited in an order that changes every epoch."""
    describe: float = 0.15
    """Share of each batch that also learns image to caption."""
    describe_weight: float = 0.2
    """Of the loss of captions beside that of image tokens."""
    guidance: float = 2.5
    """Guidance scale that its generation config will have (docs/log.md has the sweep); training does not use it."""

    def job(self) -> Job:
        torch.manual_seed(self.train.seed)
        world = World(self.world)
        words = word_tokenizer(world.vocabulary)
        ids = special_ids(words)
        padded = partial(pad_sequence, batch_first=True, padding_value=ids["pad"])
        model = build_janus(self.size.vary(vocabulary=len(words)), words)
        model.generation_config.guidance_scale = self.guidance
        vq = JanusVQ(load_vq(resolve(self.tokenizer)))
        model.model.vqmodel.load_state_dict(vq.model.state_dict())
        with torch.no_grad():  # the drawing side starts from the codes themselves, as tied embeddings would
            model.model.generation_embeddings.weight.copy_(vq.codebook)
        scenes, held = Scenes(world, self.scenes), Scenes(world, HELD, "validation")
        device = self.device
        vq.to(device)

        def encode(images: Tensor, rows: Sequence[int]) -> dict[str, Tensor]:
            return {"tokens": vq.tokens(vq.features(images.to(device))).to(torch.int16)}

        inputs = {"images": scenes.fingerprint(), "tokenizer": reader_fingerprint(vq)}
        tokens = self.encoded("tokens", scenes, encode, inputs)

        def batch(source: Scenes, rows: Sequence[int], tokens: Tensor) -> dict[str, Tensor]:
            prompts = [
                [ids["bos"], *words.encode(text, add_special_tokens=False), ids["boi"]]
                for text in source.captions(rows)
            ]
            described = max(1, round(len(rows) * self.describe))
            captions = [[ids["bos"], *row[1:-1], ids["eos"]] for row in prompts[:described]]
            return {
                "words": padded([torch.tensor(row) for row in prompts], padding_side="left"),
                "tokens": tokens.long(),
                "images": source.images(rows[:described]),
                "captions": padded([torch.tensor(row) for row in captions]),
            }

        def batches(part: int, size: int) -> dict[str, Tensor]:
            rows = shuffled_rows(part, size, len(scenes))
            return batch(scenes, rows, tokens[rows]["tokens"])

        def held_out() -> dict[str, Tensor]:
            rows = range(HELD)
            return batch(held, rows, encode(held.images(rows), rows)["tokens"].cpu())

        def export(_: nn.Module, folder: Path) -> None:
            model.config.save_pretrained(folder)
            model.generation_config.save_pretrained(folder)
            words.save_pretrained(folder)
            save_tensors(folder / "model.safetensors", model.state_dict(), dtype=torch.float16)

        special = {name: ids[name] for name in ("pad", "bos", "eos", "boi")}
        objective = VLMObjective(model, weight=self.describe_weight, **special)
        return Job(objective, batches, export, held_out=held_out, inputs=inputs)
