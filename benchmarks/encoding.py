"""Do processes that read pictures ahead keep an accelerator busy while a data set is encoded?

    OMP_NUM_THREADS=1 python benchmarks/encoding.py [--pictures 512] [--device-ms 8] [--workers 0 1 2]

The accelerator is a wait of --device-ms a picture, which takes no core from those who read. The pictures are JPEGs of
500 x 375 px, as ImageNet's are, enlarged to 384 px on the shorter side.

JPEGs -encoded-> shards, by each number of workers in turn -> one JSON row: pictures a second, and what the wait allows
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from row import report, setting

from detokenizers.data.encoded import encoded
from detokenizers.data.sources import Folder

SIZE = 384


def main() -> None:
    parser = argparse.ArgumentParser(description="Pictures a second into the encoders, by number of reading processes.")
    parser.add_argument("--pictures", type=int, default=512)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--device-ms", type=float, default=8.0, help="what the accelerator takes for a picture")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu", help="of the arrays that are kept")
    args = parser.parse_args()

    def encode(images: torch.Tensor, rows: Sequence[int]) -> dict[str, torch.Tensor]:
        time.sleep(1e-3 * args.device_ms * len(rows))
        return {"mean": images.mean((2, 3))}

    seconds: dict[int, list[float]] = {workers: [] for workers in args.workers}
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "pictures").mkdir()
        for number in range(args.pictures):
            picture = Image.effect_noise((125, 94), 80).resize((500, 375), Image.Resampling.BICUBIC).convert("RGB")
            picture.save(place / "pictures" / f"{number:05d}.jpg", quality=90)
        source = Folder(str(place / "pictures"), SIZE)
        for turn in range(args.repeats):
            for workers, taken in seconds.items():
                started = time.perf_counter()
                encoded(source, encode, place / f"{turn}-{workers}", batch=args.batch, workers=workers)
                taken.append(time.perf_counter() - started)
    rates = [round(args.pictures / statistics.median(taken), 1) for taken in seconds.values()]
    report(
        setting(
            "encoding", torch.device(args.device), torch.float32, batch=args.batch, resolution=SIZE, warm_up=0,
            repeats=args.repeats,
        ),
        {
            "pictures": args.pictures,
            "workers": args.workers,
            "images_per_s": rates,
            "ratio": [round(rate / rates[0], 2) for rate in rates],
            "limit_images_per_s": round(1e3 / args.device_ms, 1) if args.device_ms else None,
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
