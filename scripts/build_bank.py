"""Rebuild the object bank of the embedded world from its three public sources.

npm tarballs + scikit-image textures -> crop, shrink, compress -> src/detokenizers/data/world/bank/{objects.zip, *.webp}.

The wheel carries the result, so this is only needed to check or to change it:

    npm pack @lobehub/fluent-emoji-3d@1.1.0 emojibase-data@17.0.0
    python scripts/build_bank.py lobehub-fluent-emoji-3d-1.1.0.tgz emojibase-data-17.0.0.tgz \
        --textures "$(python -c 'import skimage, pathlib; print(pathlib.Path(skimage.__file__).parent / "data")')"

Which objects are core nouns and which are held out is decided by hand in `bank/nouns.json`; the rest is the tail.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

BANK = Path(__file__).parents[1] / "src/detokenizers/data/world/bank"
GROUPS = {"smileys-emotion", "animals-nature", "food-drink", "travel-places", "activities", "objects"}
DROPPED_SUBGROUPS = {"place-map", "cat-face", "monkey-face", "emotion", "hands"}
DROPPED_LABELS = re.compile(r"o.clock|thirty|button|zodiac|[^a-z' \-]")
PREFIXES = {"red", "orange", "yellow", "green", "blue", "purple", "pink", "two"}
CORE_SIDE, SIDE, QUALITY = 144, 96, 88
TEXTURE_SIDE = 288  # of 512 px: a corner, so that blades and stones stay large


def read_tarball(path: Path, wanted: str) -> dict[str, bytes]:
    """Return every file of an npm tarball whose path matches the regular expression."""
    with tarfile.open(path) as tar:
        members = [m for m in tar.getmembers() if m.isfile() and re.search(wanted, m.name)]
        return {m.name.removeprefix("package/"): tar.extractfile(m).read() for m in members}  # pyright: ignore


def labels(emojibase: Path) -> dict[str, str]:
    """Return `hexcode -> English label` of every emoji that can be an object of the world."""
    files = {k: json.loads(v) for k, v in read_tarball(emojibase, r"/en/(data|messages)\.json$").items()}
    messages = files["en/messages.json"]
    groups = {g["order"]: g["key"] for g in messages["groups"]}
    subgroups = {g["order"]: g["key"] for g in messages["subgroups"] if g["key"] != "food-marine"}
    return {
        e["hexcode"].lower().replace("-fe0f", ""): e["label"].replace("’", "'")
        for e in files["en/data.json"]
        if groups.get(e.get("group")) in GROUPS
        and subgroups.get(e.get("subgroup")) not in DROPPED_SUBGROUPS
        and not DROPPED_LABELS.search(e["label"].replace("’", "'"))
    }


def shrink(webp: bytes, side: int) -> Image.Image:
    """Crop to what is opaque and shrink the longer side to `side` px.

    PIL would premultiply mode RGBA once more, which draws a halo round every object: the four premultiplied bands are
    resized as plain numbers (mode CMYK) and divided by alpha only at the very end.
    """
    image = np.asarray(Image.open(io.BytesIO(webp)).convert("RGBA"), np.float32)
    ys, xs = np.nonzero(image[..., 3] > 16)
    image = image[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
    image[..., :3] *= image[..., 3:] / 255
    h, w = image.shape[:2]
    size = max(1, round(w * side / max(h, w))), max(1, round(h * side / max(h, w)))
    bands = Image.frombytes("CMYK", (w, h), image.round().astype(np.uint8).tobytes())
    small = np.asarray(bands.resize(size, Image.Resampling.HAMMING), np.float32).copy()
    small[..., :3] = (small[..., :3] * 255 / np.maximum(small[..., 3:], 1)).clip(0, 255)
    return Image.fromarray(small.round().astype(np.uint8), "RGBA")


def as_webp(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=QUALITY, method=4)
    return buffer.getvalue()


def role_of(label: str, nouns: dict[str, str], held_out: set[str]) -> str | None:
    """Return the path of an object in the bank, or None where it would be called as core nouns are ("two hearts")."""
    if label in nouns:
        return f"core/{nouns[label]}.webp"
    if label in held_out:
        return f"held-out/{label}.webp"
    prefix, _, rest = label.partition(" ")
    if label in nouns.values() or (prefix in PREFIXES and rest.removesuffix("s") in nouns.values()):
        return None
    return f"tail/{label}.webp"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("emoji", type=Path, help="lobehub-fluent-emoji-3d-1.1.0.tgz")
    parser.add_argument("emojibase", type=Path, help="emojibase-data-17.0.0.tgz")
    parser.add_argument("--textures", type=Path, required=True, help="the data folder of scikit-image")
    args = parser.parse_args()

    curated = json.loads((BANK / "nouns.json").read_text())
    nouns, held_out = {n["label"]: n["noun"] for n in curated["core"]}, set(curated["held_out"])
    pictures = {
        Path(k).stem.replace("-fe0f", ""): v for k, v in read_tarball(args.emoji, r"assets/[^/]+\.webp$").items()
    }
    with zipfile.ZipFile(BANK / "objects.zip", "w", zipfile.ZIP_STORED) as bank:
        for code, label in sorted(labels(args.emojibase).items(), key=lambda item: item[1]):
            if code in pictures and (path := role_of(label, nouns, held_out)):
                image = shrink(pictures[code], CORE_SIDE if path.startswith("core/") else SIDE)
                bank.writestr(zipfile.ZipInfo(path), as_webp(image))
        count = len(bank.namelist())
    for name in ("grass", "gravel", "brick"):
        grey = Image.open(args.textures / f"{name}.png").convert("L")
        (BANK / f"{name}.webp").write_bytes(as_webp(grey.crop((0, 0, TEXTURE_SIDE, TEXTURE_SIDE))))
    print(f"{count} objects, {(BANK / 'objects.zip').stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
