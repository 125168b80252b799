"""The rules behind a number, by name: how pictures are prepared, how many, which network, what it may be called.

Two groups' "FID" on the same pictures differ by whole points because one of these rules differs. So every result
carries its protocol in full, and the names FID and rFID are kept for TF-Inception at the protocol's own N. Facts are
from the papers and their public code; what these leave open is marked as a gap and chosen.

`--protocol NAME` -> Rules -> how files are read (data/canonical.py), the network (networks.py), labels, results.json.
"""

from __future__ import annotations

from typing import Literal

from ..config import Config
from ..data.images import Load
from .results import Metric

INCEPTION = "inception"
"""The name of TF-Inception, whose distances alone may be called FID."""
Preparation = Literal["short-side-bicubic", "short-side-lanczos", "adm", "as-is", "any-size"]
Resize = Literal["network", "clean-bicubic-299"]


class Rules(Config):
    """One set of rules. Equal fields, comparable numbers; the version grows when a field changes."""

    name: str
    version: int = 2
    num_images: int | None = None
    """N on either side; `None` leaves it open, and then nothing is called FID."""
    size: int | None = None
    """Side of the canonical uint8 picture in px; `None`: the embedded net's for `world`, else as files are."""
    prepare: Preparation = "as-is"
    """How originals become canonical, up or down, by antialiased PIL kernels; `as-is` refuses what is not alike."""
    prepare_drawn: Preparation = "as-is"
    """The same for drawn pictures."""
    smallest: int = 1
    """Shortest side of a picture that is prepared; at 1 none is refused, and small ones are enlarged, as everywhere."""
    png_only: bool = True
    """Refuse drawn pictures that went through JPEG or WebP, which alone moves an FID."""
    load: Load = "pil-rgb"
    """What becomes of camera rotation and transparency. `pil-rgb` is `Image.open(...).convert("RGB")`, which every
    loader of the published numbers calls: neither is applied. `upright-on-white` turns and composites, as we do."""
    quantisation: str = "round to the nearest level of uint8 before every metric"
    """A drawn picture was rounded when it was written, by the program that drew it; ours to the nearest level too."""
    extractor: str = INCEPTION
    """The network of FD, KD and PRDC where the metric does not name another."""
    resize: Resize = "network"
    """How a canonical picture gets to 299 px: the network's own TF1 bilinear, or clean-fid's float PIL bicubic."""
    ddof: int = 1
    """Of the covariance (torch-fidelity, clean-fid and ADM alike divide by N - 1)."""
    neighbours: int = 5
    """k of density and coverage."""
    resamples: int = 0
    """Default number of bootstrap resamples of a Fréchet distance."""
    paired: tuple[str, ...] = ("psnr", "ssim", "lpips-alex", "lpips-vgg", "fid")
    """Metrics when ids pair up with the reference, unless others are asked for."""
    unpaired: tuple[str, ...] = ("fid",)
    """Metrics when they do not."""
    reference: str = ""
    """Which pictures the published numbers are measured against."""
    reference_hash: str | None = None
    """sha256 over ids and pixels of that reference, where it was published or measured."""

    def metric(self, extractor: str, n: int, *, paired: bool, any_n: bool = False) -> tuple[str, Metric, str | None]:
        """Key, label and, where it is due, the tag of a Fréchet distance under these rules.

        Raises:
            ValueError: it would be called FID, but N is not the protocol's.
        """
        plain = f"fd_{extractor.replace('-', '_')}", Metric(f"FD-{extractor}", "lower")
        if extractor != INCEPTION:
            return *plain, None
        if self.num_images == n:
            return ("rfid", Metric("rFID", "lower"), None) if paired else ("fid", Metric("FID", "lower"), None)
        if not any_n:
            due = f"{self.num_images:,} pictures" if self.num_images else "a protocol that fixes N, which this is not"
            raise ValueError(
                f"an FID by the protocol {self.name!r} needs {due}, and here are {n:,}; its value depends on N. "
                "--allow any-n reports it under another name, or measure kid, which does not"
            )
        return plain[0], Metric(f"FD-inception (N={n:,})", "lower"), "not comparable"

    def require_n(self, n: int, *, any_n: bool) -> None:
        """Refuse another number of pictures than the protocol's."""
        if self.num_images is not None and n != self.num_images and not any_n:
            raise ValueError(
                f"the protocol {self.name!r} asks for {self.num_images:,} pictures, and here are {n:,}; "
                "give all of them, or --allow any-n for numbers that compare with no paper's"
            )


def rules_of(name: str) -> Rules:
    """The rules of a protocol by its name."""
    if name not in PROTOCOLS:
        raise ValueError(f"there is no protocol {name!r}; there are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]()


def world() -> Rules:
    """Ours, on the embedded world or any folder: by WorldNet; N is free, nothing is called FID.

    Pictures become the net's own size by the rule of all verbs. Version 1 cut out the centre before it resized.
    """
    ours = {
        "prepare": "short-side-bicubic",
        "prepare_drawn": "short-side-bicubic",
        "png_only": False,
        "load": "upright-on-white",
    }
    return Rules(
        name="world",
        version=2,
        extractor="world",
        resamples=200,
        paired=("psnr", "ssim", "pd-world", "sharpness", "fd-world"),
        unpaired=("fd-world", "kd-world", "prdc", "agreement"),
        reference="scenes of the embedded world, or a folder",
    ).vary(ours)


def rfid_in50k() -> Rules:
    """ImageNet validation, 50,000 reconstructions against their own centre-cropped originals, 256 px.

    As in LlamaGen's `reconstruction_vq_ddp.py` (ADM's crop: box halving, then bicubic). Never against ADM's
    `VIRTUAL_imagenet256` statistics: that inflates rFID (RAE #11, LlamaGen #34).
    """
    reference = "ImageNet-1k validation, 50,000 pictures, the originals of the reconstructions"
    return Rules(name="rfid-in50k", num_images=50_000, size=256, prepare="adm", reference=reference)


def adm_256() -> Rules:
    """Class-conditional generation at 256 px as ADM's `evaluator.py` has it: 50,000 samples.

    The reference is OpenAI's `VIRTUAL_imagenet256_labeled.npz`, given with --reference. Its hash is not in our sources:
    PAPER GAP (docs/evaluation.md#adm-reference).
    """
    reference = "VIRTUAL_imagenet256_labeled.npz of OpenAI's guided-diffusion"
    return Rules(name="adm-256", num_images=50_000, size=256, reference=reference)


def mjhq_cleanfid() -> Rules:
    """MJHQ-30K as its authors score it: clean-fid, 30,000 drawn against 30,000 real pictures.

    clean-fid goes from the file's own size to 299 px in one float bicubic resize. The originals are JPEG. At which
    size Playground's README drew is not stated: PAPER GAP (docs/evaluation.md#mjhq-size).
    """
    reference = "playgroundai/MJHQ-30K, mjhq30k_imgs.zip, 30,000 pictures of ten categories"
    return Rules(
        name="mjhq-cleanfid",
        num_images=30_000,
        prepare="any-size",
        resize="clean-bicubic-299",
        unpaired=("fid", "kid"),
        reference=reference,
    )


def evalgim() -> Rules:
    """EvalGIM as VUGEN uses it: torchmetrics' Inception, PRDC with k = 3, CLIPScore by DataComp's ViT-L/14, 256 px.

    Whether VUGEN kept EvalGIM's default CLIP is not stated, and neither is the crop:
    PAPER GAP (docs/evaluation.md#evalgim-clip).
    """
    return Rules(
        name="evalgim",
        num_images=50_000,
        size=256,
        prepare="short-side-bicubic",
        neighbours=3,
        unpaired=("fid", "prdc-inception", "clipscore-datacomp"),
        reference="ImageNet-1k validation, 50,000 pictures",
    )


def evalgim_coco() -> Rules:
    """EvalGIM on COCO: 30,000 captions of val2014, one picture each."""
    coco = {"name": "evalgim-coco", "num_images": 30_000, "reference": "COCO val2014, 30,000 captions' pictures"}
    return evalgim().vary(coco)


def dcdd_imagenet() -> Rules:
    """DCDD Table 2: Janus-Pro-7B reconstructs ImageNet validation at 384 px; 50,000 pictures.

    "Standard resize-center-crop", which we read as bicubic on the shorter side; kernel, SSIM window and LPIPS network
    are not stated: PAPER GAP (docs/evaluation.md#dcdd-kernel). Both windows and both networks are reported; .154 is
    AlexNet's level.
    """
    return Rules(
        name="dcdd-imagenet",
        num_images=50_000,
        size=384,
        prepare="short-side-bicubic",
        reference="ImageNet-1k validation, 50,000 pictures",
    )


def dcdd_imagenet_1k() -> Rules:
    """DCDD Table 6: the first 1,000 of ImageNet validation. At this N even the best decoder scores 17: never mix."""
    first = {"name": "dcdd-imagenet-1k", "num_images": 1_000, "reference": "ImageNet-1k validation, the first 1,000"}
    return dcdd_imagenet().vary(first)


def dcdd_imagenet_256() -> Rules:
    """DCDD Table 7: LlamaGen-XL reconstructs the same at 256 px."""
    return dcdd_imagenet().vary({"name": "dcdd-imagenet-256", "size": 256})


def dcdd_mjhq() -> Rules:
    """DCDD Tables 2 and 3 on MJHQ-30K at 384 px, reconstruction and generation; 30,000 pictures each.

    The paper does not state whether clean-fid was used: PAPER GAP (docs/evaluation.md#dcdd-kernel); MJHQ's own scorer
    is assumed.
    """
    return mjhq_cleanfid().vary(
        {"name": "dcdd-mjhq", "size": 384, "prepare": "short-side-bicubic", "unpaired": ("fid",)}
    )


def dcdd_mjhq_256() -> Rules:
    """DCDD Tables 7 and 8: LlamaGen-XL on MJHQ-30K at 256 px."""
    return dcdd_mjhq().vary({"name": "dcdd-mjhq-256", "size": 256})


def madit_imagenet() -> Rules:
    """MaDiT Table 1, ImageNet validation at 512 px, aspect-preserving resize and centre crop; 50,000 pictures.

    Kernel, SSIM window and LPIPS network are not stated: PAPER GAP (docs/evaluation.md#dcdd-kernel).
    """
    return dcdd_imagenet().vary({"name": "madit-imagenet", "size": 512})


def madit_mjhq() -> Rules:
    """MaDiT Table 1, MJHQ-30K at 512 px. Its reconstructions read the captions: never beside caption-free rows."""
    return dcdd_mjhq().vary({"name": "madit-mjhq", "size": 512})


PROTOCOLS = {
    make().name: make
    for make in (
        *(world, rfid_in50k, adm_256, mjhq_cleanfid, evalgim, evalgim_coco),
        *(dcdd_imagenet, dcdd_imagenet_1k, dcdd_imagenet_256, dcdd_mjhq, dcdd_mjhq_256, madit_imagenet, madit_mjhq),
    )
}
