#!/usr/bin/env bash
# DCDD Table 3: text to image with Janus-Pro-7B, both decoders from the same tokens: MJHQ-30K and GenEval.
#
# On:    one GPU with 80 GB (VLM and decoder together), or several, each with its own part of the prompts.
# Takes: about 16 s an image on an A100: 30,000 + 2,212 images are six days on one GPU. Goes on where it was cut off, and
#        pictures do not depend on how the prompts were divided.
# Needs: runs/table2_janus.sh first; MJHQ-30K's meta_data.json and pictures; GenEval's prompts; the weights of the metrics' networks (docs/metrics-networks.md)
#        and, named because you run this, the judges facebook/mask2former-swin-small-coco-instance and
#        openai/clip-vit-large-patch14 from the Hub.
# Makes: out/janus/table3/{mjhq,geneval}, in the official layouts, so that the official scorers can read them too.
#
# Paper: MJHQ gFID 14.2888 -> 9.4160 overall; GenEval 77.24 -> 78.31 overall. For the VQ decoder others report 13.48 and
#        0.80, so a baseline between 13.5 and 14.3 counts as reproduced.
set -euo pipefail
cd "$(dirname "$0")/.."
source runs/paper.bash
vlm=deepseek-community/Janus-Pro-7B
out=out/janus/table3

both=(--vlm $vlm --decoder vq out/janus/dcdd --device "$DEVICE")

detok generate --bench mjhq --bench-file "$MJHQ_META" "${both[@]}" --out $out/mjhq
detok evaluate $out/mjhq --bench mjhq --bench-file "$MJHQ_META" --reference "$MJHQ" --protocol dcdd-mjhq \
  --device "$DEVICE" --out $out/mjhq/evaluated

detok generate --bench geneval --bench-file "$GENEVAL" "${both[@]}" --out $out/geneval
detok evaluate $out/geneval --bench geneval --judge facebook/mask2former-swin-small-coco-instance \
  --colour-judge openai/clip-vit-large-patch14 --device "$DEVICE" --out $out/geneval/evaluated
