"""Every training behind VUGEN's tables, and the same for the embedded stack: one function a row, its number in the
docstring. `detok train RECIPE --out DIR` runs one; `runs/vugen_*.sh` are the tables.

Order: autoencoder -> its distillation -> tower. Baselines need the VAE alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial, update_wrapper

from ..data.sources import FolderImages
from ..flow.loss import VPrediction
from ..flow.time_laws import LogitNormal
from ..flow.time_shifts import FixedShift
from ..nn.predictions import PredictClean
from ..nn.uvit import UViTConfig, uvit_size
from ..pretrained.sd3 import SD3Config
from ..pretrained.spaces import PretrainedVAE
from ..pretrained.vlm.feature_vlm import View
from ..training import TrainConfig
from ..training.flow_networks import DINOv2Alignment, LPIPSPerceptual, NoTerm
from ..training.optimizers import Muon
from ..training.schedules import Trapezoid
from .autoencoder import AutoencoderConfig
from .decoders import LatentDecoder, PixelDecoder
from .model import VUGENConfig
from .reducers import MLP, PCA, Identity, WhitenedMLP
from .runs import AutoencoderRun, DistillationRun, Repa, TowerRun
from .targets import Latents, Understanding

IMAGENET = FolderImages(path="imagenet/train", size=256)
CAPTIONED = FolderImages(path="captioned", size=256)
"""Images with NAME.txt beside them. The paper's StockMix has 320 million images that nobody else has."""
PLM = "facebook/Perception-LM-1B"
JANUS = "deepseek-community/Janus-Pro-1B"
PLM_VIEW = View(pool=2)
"""32x32 features of 448 px, averaged 2x2: 256 tokens, the raster of the paper's VAE tokens."""
JANUS_VIEW = View(size=256)
"""Patches of 16 px at the images' own size: 256 tokens."""

# --- full size: the paper's rows ---------------------------------------------------------------------------------


def autoencoder(vlm: str = PLM, view: View = PLM_VIEW) -> AutoencoderRun:
    """Stage A, PDD with the jointly learnt reducer: Fig. 6. U-ViT M, "48M"; about 720 H200-hours (estimated)."""
    return AutoencoderRun(
        recipe="vugen.autoencoder",
        autoencoder=AutoencoderConfig(
            vlm=vlm, view=view, reducer=MLP(ratio=16), decoder=PixelDecoder(net=uvit_size("M", 64))
        ),
        images=IMAGENET,
        perceptual=LPIPSPerceptual(),
        alignment=DINOv2Alignment(),
        start_images=2048,
        statistics_images=50_000,
        distilled="vugen.distil",
        # PAPER GAP (docs/vugen.md#optimisers): SSDD's are published in conflicting copies; batch 256, 200 epochs.
        train=TrainConfig(steps=1_000_000, batch_size=256, lr=3e-4, warmup=5000, clip=0.1, precision="bf16", workers=8),
    )


def autoencoder_whitened() -> AutoencoderRun:
    """Ours: the same with a reducer that starts by whitening and reduced-rank regression."""
    return autoencoder().vary({"recipe": "vugen.autoencoder_whitened", "autoencoder.reducer": WhitenedMLP(ratio=16)})


def autoencoder_pca() -> AutoencoderRun:
    """Fig. 6: PCA in the joint reducer's place; less accurate."""
    return autoencoder().vary({"recipe": "vugen.autoencoder_pca", "autoencoder.reducer": PCA(ratio=16)})


def latent_decoder() -> AutoencoderRun:
    """Fig. 6: the latent decoder (LDM, "794M") with the jointly learnt reducer; 3.2 images/s where PDD has 119.2."""
    edm = SD3Config().edm
    return autoencoder().vary(
        {
            "recipe": "vugen.latent_decoder",
            "autoencoder.decoder": LatentDecoder(),
            "perceptual": NoTerm(),
            "alignment": NoTerm(),
            "weight": VPrediction(),
            "time_law": LogitNormal(shift=FixedShift(mu=-1.2 - math.log(edm.sigma_data)), std=1.2),
            "train.lr": 1e-4,
            "train.clip": 1.0,
        }
    )


def latent_decoder_pca() -> AutoencoderRun:
    """Fig. 6: the latent decoder on PCA features."""
    return latent_decoder().vary({"recipe": "vugen.latent_decoder_pca", "autoencoder.reducer": PCA(ratio=16)})


def ratio(value: float) -> AutoencoderRun:
    """Fig. 7: the latent decoder at another reduction ratio; at 1 generation fails (FID above 200)."""
    reducer = Identity() if value == 1 else MLP(ratio=value)
    return latent_decoder().vary({"recipe": f"vugen.ratio_{value:g}", "autoencoder.reducer": reducer})


def distil() -> DistillationRun:
    """The pixel decoder in one step, from its own eight; Fig. 6 and the 119.2 images/s."""
    return DistillationRun(
        recipe="vugen.distil",
        folder="out/vugen/autoencoder",
        images=IMAGENET,
        perceptual=LPIPSPerceptual(),
        alignment=DINOv2Alignment(),
        train=TrainConfig(steps=50_000, batch_size=256, lr=1e-4, warmup=1000, clip=0.1, precision="bf16", workers=8),
    )


def plm_1b() -> TowerRun:
    """Table 1, VUGEN on captions: FID 9.07, CLIP 27.45, DPG 74.15, GenEval 56.81; the tower learns 978M weights."""
    return TowerRun(
        recipe="vugen.plm_1b",
        model=VUGENConfig(vlm=PLM, view=PLM_VIEW, target=Understanding(folder="out/vugen/distil")),
        images=CAPTIONED,
        # PAPER GAP (docs/vugen.md#optimisers): learning rate and betas are lost; 32 GPUs at about 110 images.
        train=TrainConfig(
            steps=200_000, batch_size=3520, lr=1e-4, warmup=2000, weight_decay=0.1, betas=(0.9, 0.95),
            ema_decay=0.9999, precision="bf16", checkpointing=True, workers=8,
        ),
    )  # fmt: skip


def imagenet() -> TowerRun:
    """Table 1, VUGEN on ImageNet: FID 4.15, CLIP 26.40, density 103.32, coverage 22.46; guidance 1.8."""
    return plm_1b().vary(
        {
            "recipe": "vugen.imagenet",
            "images": IMAGENET,
            "model.guidance": 1.8,
            "train.steps": 50_000,
            "train.batch_size": 880,
        }
    )


def decoupled() -> TowerRun:
    """Table 1, Decoupled: the SD3 VAE's latents in their place. FID 13.06, CLIP 26.71, DPG 72.09, GenEval 54.00."""
    return plm_1b().vary({"recipe": "vugen.decoupled", "model.target": Latents()})


def repa() -> TowerRun:
    """Table 1, REPA: Decoupled and an alignment. FID 11.86, CLIP 26.71, DPG 71.17, GenEval 55.03."""
    return decoupled().vary({"recipe": "vugen.repa", "repa": Repa()})


def imagenet_decoupled() -> TowerRun:
    """Table 1, Decoupled on ImageNet: FID 5.85, CLIP 26.32, density 70.51, coverage 16.61."""
    return imagenet().vary({"recipe": "vugen.imagenet_decoupled", "model.target": Latents()})


def imagenet_repa() -> TowerRun:
    """Table 1, REPA on ImageNet: FID 5.40, CLIP 25.89, density 72.12, coverage 17.14."""
    return imagenet_decoupled().vary({"recipe": "vugen.imagenet_repa", "repa": Repa()})


def janus_1b_autoencoder() -> AutoencoderRun:
    """Ours: stage A on Janus-Pro-1B, whose weights and parts need no extra package."""
    return autoencoder(JANUS, JANUS_VIEW).vary(recipe="vugen.janus_1b_autoencoder")


def janus_1b() -> TowerRun:
    """Ours: VUGEN on Janus-Pro-1B, a Llama of 24 layers."""
    return plm_1b().vary(
        {
            "recipe": "vugen.janus_1b",
            "model.vlm": JANUS,
            "model.view": JANUS_VIEW,
            "model.target": Understanding(folder="out/vugen/janus_distil"),
        }
    )


# --- the embedded stack ------------------------------------------------------------------------------------------

MINI_NET = UViTConfig(condition=16, widths=(24, 48, 96), blocks=3, heads=4, patch=2, groups=8, predict=PredictClean())
"""2.3 million weights, on 2x2 squares of pixels."""
MINI_DECODER = PixelDecoder(net=MINI_NET, temperature=0.0)

MINI = TrainConfig(steps=3000, batch_size=16, lr=1e-3, optimizer=Muon(lr=3e-3), schedule=Trapezoid(decay=0.3))


def mini_autoencoder() -> AutoencoderRun:
    """Stage A of the embedded stack: 64 px, 8x8 features of 128 numbers reduced to 16. About 30 minutes of one core."""
    return AutoencoderRun(
        recipe="vugen.mini_autoencoder",
        autoencoder=AutoencoderConfig(reducer=WhitenedMLP(ratio=8), decoder=MINI_DECODER, size=64),
        distilled="vugen.mini_distil",
        train=MINI,
    )


def mini_decoder() -> AutoencoderRun:
    """The decoder that the embedded stack draws with: beside the reducer of `mini_autoencoder`, by the flow error alone, on
    three times as many images. Five minutes of an H200 that a dozen other trainings share, or some two hours of one core.

    The embedded one started from random weights; from this stage A, whose net is alike, it goes on instead."""
    return mini_autoencoder().vary(
        {
            "recipe": "vugen.mini_decoder",
            "start": "out/vugen/mini_autoencoder",
            "perceptual": NoTerm(),
            "alignment": NoTerm(),
            "train.steps": 2500,
            "train.batch_size": 64,
        }
    )


def mini_autoencoder_joint() -> AutoencoderRun:
    """The paper's reducer, an MLP on raw features."""
    return mini_autoencoder().vary({"recipe": "vugen.mini_autoencoder_joint", "autoencoder.reducer": MLP(ratio=8)})


def mini_autoencoder_pca() -> AutoencoderRun:
    """Principal components in the reducer's place."""
    return mini_autoencoder().vary({"recipe": "vugen.mini_autoencoder_pca", "autoencoder.reducer": PCA(ratio=8)})


def mini_latent_decoder() -> AutoencoderRun:
    """The latent decoder: SD3's transformer in the latents of the embedded VAE, trained as EDM."""
    edm = SD3Config().edm
    return mini_autoencoder().vary(
        {
            "recipe": "vugen.mini_latent_decoder",
            "autoencoder.decoder": LatentDecoder(
                space=PretrainedVAE(name="mini/vae"),
                net=SD3Config(latent_size=16, layers=4, heads=4, head_dim=32),
                temperature=0.0,
            ),
            "perceptual": NoTerm(),
            "alignment": NoTerm(),
            "weight": VPrediction(),
            "time_law": LogitNormal(shift=FixedShift(mu=-1.2 - math.log(edm.sigma_data)), std=1.2),
        }
    )


def mini_ratio(value: float) -> AutoencoderRun:
    """Fig. 7: another reduction ratio; at 1 the features themselves."""
    reducer = Identity() if value == 1 else WhitenedMLP(ratio=value)
    return mini_autoencoder().vary({"recipe": f"vugen.mini_ratio_{value:g}", "autoencoder.reducer": reducer})


def mini_distil() -> DistillationRun:
    """`mini_decoder` in one step. A minute of an H200 that is shared, or some 40 of one core."""
    return DistillationRun(
        recipe="vugen.mini_distil",
        folder="out/vugen/mini_decoder",
        kept=4096,
        train=MINI.vary({"schedule.decay": 0.5}, steps=800, batch_size=64, warmup=50, lr=5e-4, optimizer=Muon(lr=1e-3)),
    )


def mini() -> TowerRun:
    """VUGEN on the embedded stack. About 40 minutes of one core."""
    return TowerRun(
        recipe="vugen.mini",
        model=VUGENConfig(
            target=Understanding(folder="out/vugen/mini_distil"),
            shift=FixedShift(mu=math.log(2)),
            steps=16,
            guidance=1.5,  # 3 drifts, and judges no better (docs/results.md, Fig. S3)
        ),
        train=MINI.vary(steps=5500, lr=3e-3, optimizer=Muon(lr=1e-2)),
    )


def mini_decoupled() -> TowerRun:
    """Decoupled: the embedded VAE's latents, packed 2x2."""
    return mini().vary(
        {"recipe": "vugen.mini_decoupled", "model.target": Latents(space=PretrainedVAE(name="mini/vae"), size=64)}
    )


def mini_repa() -> TowerRun:
    """REPA: Decoupled, and the second of six layers aligned with the vision tower's features."""
    return mini_decoupled().vary({"recipe": "vugen.mini_repa", "repa": Repa(layer=2, hidden=256)})


ROWS = (
    autoencoder, autoencoder_whitened, autoencoder_pca, latent_decoder, latent_decoder_pca, distil, plm_1b, decoupled,
    repa, imagenet, imagenet_decoupled, imagenet_repa, janus_1b_autoencoder, janus_1b, mini_autoencoder, mini_decoder,
    mini_autoencoder_joint, mini_autoencoder_pca, mini_latent_decoder, mini_distil, mini, mini_decoupled, mini_repa,
)  # fmt: skip


def _at(row: Callable[[float], AutoencoderRun], value: float) -> Callable[[], AutoencoderRun]:
    """The row of one ratio, with the docstring of all."""
    return update_wrapper(partial(row, value), row)


RECIPES = {f"vugen.{row.__name__}": row for row in ROWS}
# PAPER GAP (docs/vugen.md#ratio): the ratios of Fig. 7 are lost.
RECIPES |= {f"vugen.ratio_{value}": _at(ratio, value) for value in (1, 4, 8, 32, 64)}
RECIPES |= {f"vugen.mini_ratio_{value}": _at(mini_ratio, value) for value in (1, 4, 16, 32)}
