#!/usr/bin/env bash
# MaDiT Tables 1 (ImageNet), 2a: codes, trunk and flow at 512 px, then the rows of Table 2a by sampling settings.
#
# On:    8 GPUs with 80 GB for training, one for measuring.
# Takes: 17 TFLOP an image and step: 500,000 steps of 256 are 5,400 H100 hours at 400 TFLOP/s (computed); 50,000 pictures in
#        64 rounds are 23 H100 hours a row (654 TFLOP each, computed). Every step goes on where it was cut off.
# Needs: black-forest-labs/FLUX.1-schnell (its vae; Apache-2.0); $IMAGENET/{train,val}; the weights of the metrics' networks.
#        The cache of latents takes 147 KB an image, 189 GB of disk.
# Makes: out/madit/imagenet_512, out/madit/imagenet_512_flow, out/madit/table2a/*.
#
#     TRAIN='--train.steps 20 --train.batch-size 8' DECODER='--model.trunk.width 96 --model.trunk.heads 2' runs/madit_imagenet_512.sh
#                                                                     # a trial of all of it, on a smaller decoder
#
# Paper: 23.95 dB, SSIM .65, LPIPS .21, rFID .57; its rows: regression 22.64 / 1.03, + flow 23.02 / .90, + CFG 23.66 / .66,
#        + KL order 23.95 / .57 (PSNR / rFID).
set -euo pipefail
cd "$(dirname "$0")/.."
source runs/paper.bash
out=out/madit
TRAIN="${TRAIN:-} ${DECODER:-}"
train madit.imagenet_512 --images.path "$IMAGENET/train" --out $out/imagenet_512
train madit.imagenet_512_flow --start $out/imagenet_512 --images.path "$IMAGENET/train" --out $out/imagenet_512_flow

# row NAME KEY=VALUE...: the same weights, drawing otherwise.
row() {
  local name=$1
  shift
  python scripts/vary_decoder.py $out/imagenet_512_flow $out/rows/"$name" "$@"
}
constant='{kind: constant, weight: 1.5}'
row regression sampling.decoding='{kind: regression}' sampling.order.score='{kind: random}' sampling.guidance.weight=1.0
row flow sampling.order.score='{kind: random}' sampling.guidance.weight=1.0
row cfg sampling.order.score='{kind: random}' sampling.guidance="$constant"
row kl sampling.guidance="$constant"
detok reconstruct "$IMAGENET/val" --vlm $out/imagenet_512_flow --decoder $out/rows/{regression,flow,cfg,kl} --decode-batch 8 \
  --device "$DEVICE" --out $out/table2a
detok evaluate $out/table2a --reference $out/table2a/original --protocol madit-imagenet \
  --metrics rfid ssim psnr lpips-alex lpips-vgg --device "$DEVICE" --out $out/table2a/evaluated
