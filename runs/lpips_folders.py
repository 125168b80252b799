"""Mean LPIPS (AlexNet) between the pictures of two folders that carry the same names; needs `pip install -e '.[eval]'`.

python runs/lpips_folders.py out/janus/table2/imagenet/dcdd out/janus/table2/imagenet/original
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import lpips  # pyright: ignore[reportMissingImports]
import torch
from tqdm import tqdm

from detokenizers.data.images import find, read, to_tensor


def main() -> None:
    drawn, truth = ({file.id: file.path for file in find(Path(folder))} for folder in sys.argv[1:3])
    if odd := drawn.keys() ^ truth.keys():
        raise SystemExit(f"the folders hold different pictures, e.g. {min(odd)!r}; compare like with like")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    net = lpips.LPIPS(net="alex").to(device)
    total = 0.0
    for id in tqdm(drawn):
        pair = [to_tensor(read(paths[id], SIZE)[None]).to(device) for paths in (drawn, truth)]
        with torch.no_grad():
            total += net(*pair).item()
    print(json.dumps({"lpips_alex": total / len(drawn), "n": len(drawn), "size": SIZE}))


SIZE = int(sys.argv[3]) if len(sys.argv) > 3 else 384

if __name__ == "__main__":
    main()
