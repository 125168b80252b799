"""The rows of the DCDD paper's tables and ours beyond it; one function a row, its docstring the command and the target.

Full size: `janus_pro_7b*`, `llamagen_xl*` (the paper's 50K steps; its Table 4 uses 10K a row). Embedded: `mini*`. A row
with LC names the report of `detok calibrate` for its VLM. A report fits one codebook, so no row can take the numbers of
another VLM: with another `--vlm` give its own `--calibration`.
"""

from __future__ import annotations

from collections.abc import Callable

from ..data.sources import FolderImages, WorldImages
from ..pretrained.flux.scope import Full
from ..pretrained.flux.transformer import FluxConfig
from ..pretrained.spaces import PretrainedVAE
from ..training import TrainConfig
from ..training.optimizers import Muon
from ..training.schedules import Constant, Trapezoid
from .calibration import Affine, Calibration
from .condition import CondConfig
from .lcdm import Committed, Expectation, HardCodes
from .model import DCDDConfig
from .proxies import AnySharpness, Proxy, TeacherForced
from .runs import DCDDRun

IMAGENET = "imagenet/train"
PAPER = TrainConfig(
    steps=50_000,
    batch_size=32,
    lr=1e-5,
    warmup=500,
    schedule=Constant(),
    betas=(0.9, 0.999),
    ema_decay=0.0,
    precision="bf16",
    checkpointing=True,
    workers=8,
)
"""4 x A100-80G in the paper, 8 images each, which fits with checkpointing (64 GB and activations, computed by
benchmarks/memory.py); `accelerate launch` spreads the batch, and each process has eight others read pictures for it."""


def janus_pro_7b() -> DCDDRun:
    """Tables 2 and 3, Janus-Pro-7B + LCDM + LC. ImageNet rFID 2.8511 -> 0.7535, MJHQ gFID 14.29 -> 9.42, GenEval 78.31.

    First `runs/table1_janus.sh`: it calibrates on a hundred training images, which is enough (57,600 tokens), then
    `accelerate launch -m detokenizers train dcdd.janus_pro_7b --calibration out/janus/calibration.json --out
    out/janus/dcdd`. Expect a kappa near 27, where spec and Table 1 put a VLM of normalised entropy .4153. Attention
    learns with 1e-5, new layers with 1e-4.
    """
    return DCDDRun(
        recipe="dcdd.janus_pro_7b",
        vlm="deepseek-community/Janus-Pro-7B",
        images=FolderImages(path=IMAGENET, size=384),
        calibration="out/janus/calibration.json",
        new_lr_scale=10.0,
        train=PAPER,
    )


def janus_pro_7b_hard() -> DCDDRun:
    """Table 4 row 1, hard VQ codes (LCDM of a one-hot distribution), 10K steps. ImageNet rFID 33.5081."""
    return _hard(janus_pro_7b())


def janus_pro_7b_lcdm() -> DCDDRun:
    """Table 4 row 2, + LCDM on the raw (flat) proxy, 10K steps. ImageNet rFID 31.2049."""
    return _lcdm(janus_pro_7b())


def janus_pro_7b_lc() -> DCDDRun:
    """Table 4 row 3, + LCDM + LC, 10K steps. ImageNet rFID 30.5760."""
    return janus_pro_7b().vary({"recipe": "dcdd.janus_pro_7b_lc", "train.steps": 10_000})


def llamagen_xl() -> DCDDRun:
    """Tables 7 and 8, LlamaGen-XL at 256 px. ImageNet rFID 4.1919 -> 1.4087, MJHQ gFID 59.03 -> 61.09, GenEval 28.19.

    Reconstruction improves and generation does not. The checkpoint is that of stage 1.
    """
    changes = {"vlm": "llamagen-xl@weights/llamagen", "images.size": 256}
    changes |= {"calibration": "out/llamagen/calibration.json"}
    return janus_pro_7b().vary({"recipe": "dcdd.llamagen_xl", **changes})


def llamagen_xl_hard() -> DCDDRun:
    """Not in the paper: Table 4 row 1 for LlamaGen-XL, hard VQ codes, 10K steps."""
    return _hard(llamagen_xl())


def llamagen_xl_lcdm() -> DCDDRun:
    """Not in the paper: Table 4 row 2 for LlamaGen-XL, + LCDM on the raw proxy, 10K steps."""
    return _lcdm(llamagen_xl())


def _hard(run: DCDDRun) -> DCDDRun:
    """Ablation: hard codes, which no calibration changes."""
    changes = {"recipe": f"{run.recipe}_hard", "decoder.lcdm": HardCodes(), "calibration": None}
    return run.vary({**changes, "train.steps": 10_000})


def _lcdm(run: DCDDRun) -> DCDDRun:
    """Ablation: LCDM of the raw proxy."""
    return run.vary({"recipe": f"{run.recipe}_lcdm", "calibration": None, "train.steps": 10_000})


MINI_NET = FluxConfig(
    layers=1,
    single_layers=7,
    heads=6,
    head_dim=32,
    axes=(4, 14, 14),
    text_dim=32,
    pooled_dim=32,
    latent_channels=8,
    stride=4,
    guidance=None,
)

MINI_CALIBRATION = "mini/dcdd/calibration.json"
"""What `detok calibrate --vlm mini --num-prompts 100 --world 1000 --kappa-range 10 400 --epsilons 0` finds.

No smoothing: the decoders start from one that has seen every sharpness, but never a fattened tail (docs/log.md)."""


def mini() -> DCDDRun:
    """Ours beyond the paper: any sharpness, the committed code beside the expectation. 3 to 5 hours on one core.

    It needs no VLM and no calibration to learn; the rows of Table 4 on the mini stack all go on from it. At inference
    the VLM's probabilities are smoothed (epsilon 0.1); those of the rows are not (docs/results.md, Table 4).
    """
    return DCDDRun(
        recipe="dcdd.mini",
        vlm="mini",
        images=WorldImages(count=40_960),
        distribution=AnySharpness(),
        calibration=MINI_CALIBRATION,
        decoder=DCDDConfig(
            lcdm=Committed(),
            calibration=Calibration(vlm_side=Affine(epsilon=0.1)),
            condition=CondConfig(width=64),
            net=MINI_NET,
            scope=Full(),
            space=PretrainedVAE(name="mini/vae"),
            token_stride=8,
            steps=8,
        ),
        train=TrainConfig(steps=23_000, batch_size=16, lr=1e-3),
    )


def mini_paper() -> DCDDRun:
    """The embedded decoder, DCDD as the paper has it: LCDM on calibrated proxies, with Muon. 20 minutes on one core.

    It goes on from the weights of `dcdd.mini` (`runs/mini_cpu.sh`); from random ones it wants more than 2,000 steps
    (docs/log.md).
    """
    changes = {"decoder.lcdm": Expectation(), "decoder.calibration": Calibration(), "distribution": Proxy()}
    muon = {"train.optimizer": Muon(lr=1e-3), "train.schedule": Trapezoid(decay=0.25), "train.lr": 5e-4}
    return mini().vary({"recipe": "dcdd.mini_paper", "start": "mini/dcdd", **changes, **muon, "train.steps": 1600})


def _mini_row(name: str, **changes: object) -> DCDDRun:
    """A row of Table 4: the same start, data, steps and seed; only what the decoder reads differs.

    `runs/mini_cpu.sh` starts all of them from `dcdd.mini`, which has learnt every sharpness, so that none is at home.
    """
    shared = {"recipe": f"dcdd.{name}", "start": "mini/dcdd", "distribution": Proxy(), "images.count": 9600}
    shared |= {"decoder.calibration": Calibration(), "train.steps": 600, "train.lr": 5e-4}
    return mini().vary({**shared, **{key.replace("__", "."): value for key, value in changes.items()}})


def mini_hard() -> DCDDRun:
    """Table 4 row 1 on the mini stack: hard codes."""
    return _mini_row("mini_hard", decoder__lcdm=HardCodes(), calibration=None)


def mini_lcdm() -> DCDDRun:
    """Table 4 row 2 on the mini stack: + LCDM on the raw proxy."""
    return _mini_row("mini_lcdm", decoder__lcdm=Expectation(), calibration=None)


def mini_lc() -> DCDDRun:
    """Table 4 row 3 on the mini stack: + LCDM + LC, with the embedded VLM's calibration."""
    return _mini_row("mini_lc", decoder__lcdm=Expectation())


def mini_teacher_forced() -> DCDDRun:
    """Beyond the paper (a): the VLM's own distribution at every token of a real image, no proxy."""
    return _mini_row("mini_teacher_forced", decoder__lcdm=Expectation(), distribution=TeacherForced())


def mini_committed() -> DCDDRun:
    """Beyond the paper (b): the committed token beside the expectation, on the calibrated proxy."""
    return _mini_row("mini_committed")


def mini_both() -> DCDDRun:
    """Beyond the paper (c): teacher-forced distributions and the committed token."""
    return _mini_row("mini_both", distribution=TeacherForced())


RECIPES: dict[str, Callable[[], DCDDRun]] = {
    f"dcdd.{recipe.__name__}": recipe
    for recipe in (
        janus_pro_7b,
        janus_pro_7b_hard,
        janus_pro_7b_lcdm,
        janus_pro_7b_lc,
        llamagen_xl,
        llamagen_xl_hard,
        llamagen_xl_lcdm,
        mini,
        mini_paper,
        mini_hard,
        mini_lcdm,
        mini_lc,
        mini_teacher_forced,
        mini_committed,
        mini_both,
    )
}
