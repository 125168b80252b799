#!/usr/bin/env bash
# DCDD Table 1: how sure are Janus-Pro-7B, its raw encoder and the calibrated encoder? All later tables need the result.
#
# On:    one GPU with 24 GB. Takes about 20 minutes (estimate; 100 images drawn twice, 100 encoded, two searches).
# Needs: the Hub (about 15 GB); ImageNet's train folder at $IMAGENET/train; GenEval's evaluation_metadata.jsonl.
# Makes: out/janus/calibration.json (kappa, epsilon, statistics), .png (Fig. 6) and .md (Table 1, the geometry gap).
#
# Paper: normalised entropy .4153 (VLM), .9936 (raw), .4242 (calibrated); top-1 .2216, .00015, .2223.
set -euo pipefail
cd "$(dirname "$0")/.."
IMAGENET=${IMAGENET:-imagenet}
GENEVAL=${GENEVAL:-geneval/prompts/evaluation_metadata.jsonl}
vlm=deepseek-community/Janus-Pro-7B

# A hundred training images, always the same: 57,600 tokens, as many as the VLM's side has.
sample=out/janus/sample
mkdir -p $sample
find "$(realpath "$IMAGENET")/train" -name '*.JPEG' | LC_ALL=C sort | awk 'NR % 12345 == 1 && ++n <= 100' |
  while read -r picture; do ln -sf "$picture" $sample/; done

detok calibrate --vlm $vlm --prompts "$GENEVAL" --num-prompts 100 --images $sample \
  --guidance 5 --temperature 1 --search joint --device cuda --out out/janus/calibration.json | tee out/janus/calibration.md
detok calibrate --vlm $vlm --prompts "$GENEVAL" --num-prompts 100 --images $sample \
  --guidance 5 --temperature 1 --search paper --device cuda --out out/janus/calibration_paper.json
