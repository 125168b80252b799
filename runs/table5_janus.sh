#!/usr/bin/env bash
# DCDD Table 5: what the better decoder costs, end to end, beside Table 3's gFID.
#
# On:    one GPU with 80 GB. Takes a few minutes.
# Needs: out/janus/dcdd from runs/table2_janus.sh.
# Makes: out/janus/table5/latency.jsonl, one row per number of steps.
#
# Paper: 11.86 s with the VQ decoder, 15.56 s with ours, on a GPU it does not name.
set -euo pipefail
cd "$(dirname "$0")/.."
source runs/paper.bash
mkdir -p out/janus/table5
for steps in 10 25 30; do
  python benchmarks/latency.py --vlm deepseek-community/Janus-Pro-7B --decoder out/janus/dcdd --steps $steps --device "$DEVICE"
done | tee out/janus/table5/latency.jsonl
