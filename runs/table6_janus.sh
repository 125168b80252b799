#!/usr/bin/env bash
# DCDD Table 6: 5 to 35 sampling steps, on the first 1,000 images of ImageNet's validation set.
#
# On:    one GPU with 80 GB. Takes about an hour and a half on an H100 (estimate).
# Needs: out/janus/dcdd from runs/table2_janus.sh; $IMAGENET/val; the weights of the metrics' networks (docs/metrics-networks.md).
# Makes: out/janus/table6/*. An FID over 1,000 images is 17 (ours) to 20 (VQ) above one over 50,000: never mix the two.
#
# Paper: rFID 23.1038 (VQ); 35.0169, 20.8859, 18.3279, 17.6918, 17.5659, 17.6969, 17.7818 for 5, 10, ..., 35 steps.
set -euo pipefail
cd "$(dirname "$0")/.."
source runs/paper.bash
vlm=deepseek-community/Janus-Pro-7B
out=out/janus/table6
linked "$IMAGENET/val" 'ILSVRC2012_val_*.JPEG' 1 1000 $out/first1000

measure() {
  detok evaluate "$1" --reference "$1/original" --protocol dcdd-imagenet-1k --metrics rfid ssim psnr lpips-alex lpips-vgg \
    --device "$DEVICE" --out "$1/evaluated"
}
detok reconstruct $out/first1000 --vlm $vlm --decoder vq --device "$DEVICE" --out $out/vq
measure $out/vq
for steps in 5 10 15 20 25 30 35; do
  detok reconstruct $out/first1000 --vlm $vlm --decoder out/janus/dcdd --steps $steps --device "$DEVICE" --out $out/steps_$steps
  measure $out/steps_$steps
done
