#!/usr/bin/env bash
# DCDD Table 4: hard codes, + LCDM, + LCDM + LC, trained for 10,000 steps each under identical settings.
#
# On:    4 GPUs with 80 GB. Takes 11 H100 hours per row to train, 6 with no text tokens, and two days to measure (computed).
# Needs: runs/table1_janus.sh, the encoded cache of runs/table2_janus.sh, and the weights of the metrics' networks (docs/metrics-networks.md).
# Makes: out/janus/table4/{hard,lcdm,lc} and out/janus/table4/reconstruction.
#
# Paper: ImageNet rFID 33.5081 (hard), 31.2049 (+LCDM), 30.5760 (+LCDM+LC); SSIM .4244, .4275, .4360;
#        LPIPS .4132, .4009, .3875.
set -euo pipefail
cd "$(dirname "$0")/.."
source runs/paper.bash
vlm=deepseek-community/Janus-Pro-7B
out=out/janus/table4

row() {
  local name=$1
  shift
  train "dcdd.janus_pro_7b_$name" --images.path "$IMAGENET/train" "$@" --out "$out/$name"
}
row hard
row lcdm
row lc --calibration out/janus/calibration.json

detok reconstruct "$IMAGENET/val" --vlm $vlm --decoder $out/hard $out/lcdm $out/lc --device "$DEVICE" --out $out/reconstruction
detok evaluate $out/reconstruction --reference $out/reconstruction/original --protocol dcdd-imagenet \
  --metrics rfid ssim psnr lpips-alex lpips-vgg --device "$DEVICE" --out $out/evaluated
