"""Round the matrices of a file of weights to int8 with a scale a row, in place: half of fp16, for what the package carries.

    python scripts/shrink.py src/detokenizers/embedded/mini/one_step/decoder.safetensors

safetensors -> the same tensors, rounded (int8.py:rounded), and by how much at most
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from detokenizers.checkpoint import load_tensors, save_tensors


def main() -> None:
    parser = argparse.ArgumentParser(description="Round files of weights to int8, in place.")
    parser.add_argument("files", nargs="+", type=Path)
    for path in parser.parse_args().files:
        before, size = load_tensors(path), path.stat().st_size
        save_tensors(path, before, dtype=torch.int8)
        after = load_tensors(path)
        change = max(
            float((after[name] - tensor).norm() / tensor.norm().clamp_min(1e-9)) for name, tensor in before.items()
        )
        print(f"{path}: {size / 1e6:.1f} to {path.stat().st_size / 1e6:.1f} MB; no tensor by more than {change:.1%}")


if __name__ == "__main__":
    main()
