#!/usr/bin/env bash
# DCDD Table 2: train the decoder of Janus-Pro-7B, then measure reconstruction on ImageNet's validation set and MJHQ-30K.
#
# On:    4 GPUs with 80 GB for training (the paper: A100), one for measuring.
# Takes: training about 55 H100 hours in all with the recipe's 512 text tokens, 28 with none (computed); measuring 50,000 + 30,000
#        pictures at 30 steps about a day on one H100 (estimate). Every step goes on where it was cut off.
# Needs: runs/table1_janus.sh first; access to the gated black-forest-labs/FLUX.1-Fill-dev (hf auth login; its licence is
#        non-commercial); $IMAGENET/{train,val}; $MJHQ, the unpacked pictures of MJHQ-30K;
#        the weights of the metrics' networks (docs/metrics-networks.md).
#        The cache of features and latents takes 83 KB an image, 106 GB of disk.
# Makes: out/janus/dcdd (the decoder), out/janus/table2/*.
#
# Paper: ImageNet rFID 2.8511 -> 0.7535, SSIM .5786 -> .5957, LPIPS .1541 -> .1374;
#        MJHQ-30K rFID 4.4882 -> 1.8127, SSIM .6564 -> .6782, LPIPS .1432 -> .1308.
set -euo pipefail
cd "$(dirname "$0")/.."
source runs/paper.bash
vlm=deepseek-community/Janus-Pro-7B
train dcdd.janus_pro_7b --images.path "$IMAGENET/train" --calibration out/janus/calibration.json --out out/janus/dcdd

# Against the very crops that were encoded. The paper does not name its LPIPS net (its level fits AlexNet), so both are shown.
for data in "imagenet $IMAGENET/val" "mjhq $MJHQ"; do
  read -r name folder <<<"$data"
  out=out/janus/table2/$name
  detok reconstruct "$folder" --vlm $vlm --decoder vq out/janus/dcdd --steps 30 --device "$DEVICE" --out "$out"
  detok evaluate "$out" --reference "$out/original" --protocol "dcdd-$name" --metrics rfid ssim psnr lpips-alex lpips-vgg \
    --device "$DEVICE" --out "$out/evaluated"
done
