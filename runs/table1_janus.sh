#!/usr/bin/env bash
# DCDD Table 1: how certain are Janus-Pro-7B, its raw encoder and the calibrated encoder? All later tables need the result.
#
# On:    one GPU with 24 GB. Takes about 20 minutes (estimate; 100 images drawn twice, 100 encoded, two searches).
# Needs: the Hub (about 15 GB); ImageNet's train folder at $IMAGENET/train; GenEval's evaluation_metadata.jsonl.
# Makes: out/janus/calibration.json (kappa, epsilon, statistics), .png (Fig. 6) and .md (Table 1, the geometry gap).
#
# Paper: normalised entropy .4153 (VLM), .9936 (raw), .4242 (calibrated); top-1 .2216, .00015, .2223.
set -euo pipefail
cd "$(dirname "$0")/.."
source runs/paper.bash
vlm=deepseek-community/Janus-Pro-7B

# A hundred training images, always the same: 57,600 tokens, as many as the VLM's side has.
sample=out/janus/sample
linked "$IMAGENET/train" '*.JPEG' 12345 100 $sample

detok calibrate --vlm $vlm --prompts "$GENEVAL" --num-prompts 100 --images $sample \
  --guidance 5 --temperature 1 --search joint --device "$DEVICE" --out out/janus/calibration.json | tee out/janus/calibration.md
detok calibrate --vlm $vlm --prompts "$GENEVAL" --num-prompts 100 --images $sample \
  --guidance 5 --temperature 1 --search paper --device "$DEVICE" --out out/janus/calibration_paper.json
