"""The rows of the MaDiT paper's tables and ours beyond it; one function a row, its docstring what it is and its target.
Full size: `imagenet_512`, `general_512`, `qwen_7b`. Rows of Table 2a differ in sampling alone: one decoder gives four."""

from __future__ import annotations

from ..data.sources import FolderImages, WorldImages
from ..nn.codebook import Averages
from ..pretrained.spaces import PretrainedVAE
from ..pretrained.vlm.language_models import PublishedLanguageModel, SmallQwen
from ..training import TrainConfig
from ..training.optimizers import Muon
from ..training.schedules import Constant, Cosine, Trapezoid
from .adapter import AdapterConfig
from .distributions import Both
from .heads import Flow, Full, HeadConfig
from .language_runs import LanguageRun
from .masked import TrunkConfig
from .model import MaDiTConfig, Sampling
from .objectives import QuantiserSchedule
from .orders import CodewordVariance, ConstantWeight, LinearWeight, Order
from .runs import StageOneRun, StageTwoRun
from .tokenizer import BorrowedConfig, TokenizerConfig

PAPER = TrainConfig(
    steps=500_000,
    batch_size=256,
    lr=1e-4,
    warmup=10_000,
    schedule=Constant(),
    weight_decay=0.02,
    betas=(0.9, 0.95),
    clip=3.0,
    ema_decay=0.9999,
    precision="bf16",
)
"""The paper prints no training settings of the tokenizer; these are MAR's (docs/madit.md#training)."""
FULL_SCHEDULE = QuantiserSchedule(unquantised=2_000, frozen=300_000, collect=262_144)
SAMPLING = Sampling(rounds=64, guidance=LinearWeight(weight=1.5), decoding=Flow(steps=10))


def imagenet_512() -> StageOneRun:
    """Table 1, ImageNet, codes and trunk: 512 px to 1,024 tokens of 65,536 codes; ImageNet-1k without text."""
    return StageOneRun(
        recipe="madit.imagenet_512",
        images=FolderImages(path="imagenet/train", size=512),
        model=MaDiTConfig(trunk=TrunkConfig(text="none"), sampling=SAMPLING),
        schedule=FULL_SCHEDULE,
        exact=100_000,
        train=PAPER,
    )


def imagenet_512_flow() -> StageTwoRun:
    """Table 1, ImageNet, the flow: PSNR 23.95, SSIM .65, LPIPS .21, rFID .57. Table 2a's rows: regression 22.64 / 1.03,
    + flow 23.02 / .90, + CFG 23.66 / .66, + KL order 23.95 / .57 (PSNR / rFID)."""
    return StageTwoRun(
        recipe="madit.imagenet_512_flow",
        start="out/madit/imagenet_512",
        images=FolderImages(path="imagenet/train", size=512),
        model=MaDiTConfig(sampling=SAMPLING),
        exact=100_000,
        train=PAPER.vary(steps=200_000),
    )


def general_512() -> StageOneRun:
    """Table 1, MJHQ, codes and trunk with the words of Qwen2.5 on both sides; ten million captioned images."""
    return imagenet_512().vary(
        {
            "recipe": "madit.general_512",
            "images.path": "general/train",
            "model.trunk.text": "encoder_decoder",
            "model.words": "out/madit/qwen_words",
        }
    )


def general_512_flow() -> StageTwoRun:
    """Table 1, MJHQ, the flow: PSNR 24.90, SSIM .75, LPIPS .20, rFID 1.04. Table 2b: text none 24.61 / 1.30, encoder
    24.82 / 1.12, encoder and decoder 24.90 / 1.04 (PSNR / rFID)."""
    return imagenet_512_flow().vary(
        {"recipe": "madit.general_512_flow", "start": "out/madit/general_512", "images.path": "general/train"}
    )


def qwen_7b() -> LanguageRun:
    """Table 3, pre-training: Qwen2.5-7B on ten million pairs, batch 1,024, learning rate 1e-4, ten epochs, Adam without
    weight decay, cosine, 3 % warm-up."""
    steps = 10 * 10_000_000 // 1024
    return LanguageRun(
        recipe="madit.qwen_7b",
        tokenizer="out/madit/general_512_flow",
        images=FolderImages(path="general/train", size=512),
        model=PublishedLanguageModel(),
        train=TrainConfig(
            steps=steps,
            batch_size=1024,
            lr=1e-4,
            warmup=round(0.03 * steps),
            schedule=Cosine(final=0.0),
            weight_decay=0.0,
            betas=(0.9, 0.999),
            ema_decay=0.0,
            precision="bf16",
            accumulate=16,
            checkpointing=True,
        ),
    )


def qwen_7b_instruct() -> LanguageRun:
    """Table 3, instruction tuning: BLIP3o-60k and ShareGPT-4o-Image 45k, 2e-5, five epochs. GenEval .79, DPG 84.63."""
    steps = 5 * 105_000 // 1024
    return qwen_7b().vary(
        {
            "recipe": "madit.qwen_7b_instruct",
            "start": "out/madit/qwen_7b",
            "images.path": "instruct/train",
            "train.steps": steps,
            "train.warmup": round(0.03 * steps),
            "train.lr": 2e-5,
        }
    )


MINI_STEPS, MINI_FLOW_STEPS = 6_000, 2_000
MINI_TRAIN = TrainConfig(
    steps=MINI_STEPS,
    batch_size=16,
    lr=1.5e-3,
    optimizer=Muon(lr=3e-3),
    schedule=Cosine(final=0.02),
    weight_decay=0.0,
    ema_decay=0.99,
)
MINI_FLOW = MINI_TRAIN.vary({"steps": MINI_FLOW_STEPS, "lr": 5e-4, "optimizer.lr": 1e-3})
MINI_MODEL = MaDiTConfig(
    codes=TokenizerConfig(
        space=PretrainedVAE(name="mini/vae"),
        image_size=64,
        patch=2,
        codes=1024,
        dim=32,
        rule=Averages(),
        adapter=AdapterConfig(width=128, blocks=2, groups=16),
    ),
    words="mini/words",
    word_length=32,
    trunk=TrunkConfig(width=128, encoder=3, decoder=3, heads=4, dropout=0.0, text="none"),
    head=HeadConfig(width=256, blocks=3),
    # Chosen on 300 scenes with new captions (docs/madit.md#mini).
    sampling=Sampling(rounds=4, guidance=ConstantWeight(weight=1.2), decoding=Flow(steps=10, temperature=0.5)),
)


def mini() -> StageOneRun:
    """One token a patch: 64 tokens of 1,024 codes, 640 bits an image, the mini VQ's. Half an hour of one core."""
    return StageOneRun(
        recipe="madit.mini",
        images=WorldImages(count=32_768),
        model=MINI_MODEL,
        schedule=QuantiserSchedule(unquantised=MINI_STEPS // 5, frozen=3 * MINI_STEPS // 5),
        train=MINI_TRAIN,
    )


def mini_flow() -> StageTwoRun:
    """The flow around `mini`. Table 2a's rows are its sampling: regression, + flow (weight 1), + CFG, + KL order."""
    return StageTwoRun(
        recipe="madit.mini_flow",
        start="out/madit/mini",
        images=WorldImages(count=32_768),
        model=MINI_MODEL,
        repeats=1,
        head_pace=3.0,
        train=MINI_FLOW,
    )


def mini_full() -> StageTwoRun:
    """The net as the velocity itself (Eq. 3 to the letter) instead of a residual."""
    return mini_flow().vary({"recipe": "madit.mini_full", "model.head.velocity": Full()})


def mini_few() -> StageOneRun:
    """Fewer tokens than patches: 64 tokens over 256 patches of single latents."""
    return mini().vary({"recipe": "madit.mini_few", "model.codes.patch": 1, "model.codes.token_stride": 2})


def mini_few_flow() -> StageTwoRun:
    """The flow around `mini_few`."""
    return mini_flow().vary({"recipe": "madit.mini_few_flow", "start": "out/madit/mini_few"})


def mini_sixteen() -> StageOneRun:
    """Fewer tokens than patches: 16 tokens over 64 patches, 160 bits an image."""
    return mini().vary({"recipe": "madit.mini_sixteen", "model.codes.token_stride": 2})


def mini_sixteen_flow() -> StageTwoRun:
    """The flow around `mini_sixteen`."""
    return mini_flow().vary({"recipe": "madit.mini_sixteen_flow", "start": "out/madit/mini_sixteen"})


def mini_sixteen_encoder() -> StageOneRun:
    """Table 2b: `mini_sixteen` with SmolLM2's words in the encoder."""
    return mini_sixteen().vary({"recipe": "madit.mini_sixteen_encoder", "model.trunk.text": "encoder"})


def mini_sixteen_both() -> StageOneRun:
    """Table 2b: `mini_sixteen` with SmolLM2's words in encoder and decoder."""
    return mini_sixteen().vary({"recipe": "madit.mini_sixteen_both", "model.trunk.text": "encoder_decoder"})


def mini_sixteen_both_flow() -> StageTwoRun:
    """The flow around `mini_sixteen_both`."""
    return mini_flow().vary({"recipe": "madit.mini_sixteen_both_flow", "start": "out/madit/mini_sixteen_both"})


def mini_sixteen_random() -> StageOneRun:
    """Control of Table 2b: `mini_sixteen_both` with random rows in place of SmolLM2's (`scripts/random_words.py`)."""
    return mini_sixteen_both().vary({"recipe": "madit.mini_sixteen_random", "model.words": "out/madit/random_words"})


def mini_sixteen_learned() -> StageOneRun:
    """Control of Table 2b: `mini_sixteen_random` with rows that learn in stage 1, from scratch."""
    return mini_sixteen_random().vary({"recipe": "madit.mini_sixteen_learned", "model.words_learn": True})


def mini_distributions() -> StageTwoRun:
    """Beyond the paper: `mini_flow` goes on with distributions beside its tokens (spec 4), equal to it at step 0; part of
    them are those of `mini_language` about the images' own tokens."""
    return mini_flow().vary(
        {
            "recipe": "madit.mini_distributions",
            "start": "out/madit/mini_flow",
            "language": "out/madit/mini_language",
            "images.count": 16_384,
            "model.input": Both(),
            "train.steps": 1_000,
        }
    )


def mini_more() -> StageTwoRun:
    """The control of `mini_distributions`: as many more steps on hard tokens."""
    return mini_distributions().vary({"recipe": "madit.mini_more", "language": None, "model.input": {"kind": "hard"}})


def mini_janus() -> StageTwoRun:
    """MaDiT as a decoder of the mini VLM's own codes (spec 4.1.5); trunk and flow learn together."""
    return StageTwoRun(
        recipe="madit.mini_janus",
        vlm="mini",
        images=WorldImages(count=32_768),
        model=MINI_MODEL.vary(codes=BorrowedConfig(space=PretrainedVAE(name="mini/vae"), image_size=64, patch=2)),
        repeats=1,
        train=MINI_TRAIN,
    )


def mini_variance() -> StageTwoRun:
    """`mini_few_flow` drawn in the order of within-code variance, which measures texture where the KL does not."""
    return mini_few_flow().vary(
        {"recipe": "madit.mini_variance", "model.sampling.order": Order(score=CodewordVariance())}
    )


def mini_language() -> LanguageRun:
    """A small Qwen2 of the world's words that writes the codes of `mini_flow`: text to image. `mini/madit-llm`: 100 seconds
    of an H200 that three other trainings share, after 90 in which images become codes."""
    return LanguageRun(
        recipe="madit.mini_language",
        tokenizer="out/madit/mini_flow",
        images=WorldImages(count=40_960),
        model=SmallQwen(),
        guidance=2.0,
        train=MINI_TRAIN.vary(steps=1_800, batch_size=128, schedule=Trapezoid()),
    )


PARTS = (
    imagenet_512, imagenet_512_flow, general_512, general_512_flow, qwen_7b, qwen_7b_instruct, mini, mini_flow, mini_full,
    mini_few, mini_few_flow, mini_variance, mini_sixteen, mini_sixteen_flow, mini_sixteen_encoder, mini_sixteen_both,
    mini_sixteen_both_flow, mini_sixteen_random, mini_sixteen_learned, mini_language, mini_distributions, mini_more,
    mini_janus,
)  # fmt: skip
RECIPES = {f"madit.{recipe.__name__}": recipe for recipe in PARTS}
