#!/usr/bin/env bash
# VUGEN Table 1 on captions: PerceptionLM-1B samples in its own understanding space; beside it Decoupled and REPA.
#
# On:    GPUs with 80 GB: the paper has 32 for the towers; GPUS=8 and --train.accumulate do the same more slowly.
# Takes: stage A about 720 H200 hours, distillation 50, each of three towers 900, measuring a day each (all estimated from
#        operation counts). Every step goes on where it was cut off.
# Needs: pip install -e '.[plm]' (timm, torchvision); facebook/Perception-LM-1B and, for its VAE, the gated
#        stabilityai/stable-diffusion-3-medium-diffusers from the Hub; $IMAGENET/train, $CAPTIONED, $COCO, $GENEVAL, $DPG (runs/vugen_paper.bash); the
#        weights of the metrics' and losses' networks (docs/metrics-networks.md), facebook/dinov2-base.
# Makes: out/vugen/{autoencoder,distil,plm_1b,decoupled,repa}, out/vugen/table1/*, out/vugen/efficiency.json.
#
# Paper: COCO FID 13.06 (Decoupled), 11.86 (REPA), 9.07 (VUGEN); CLIP 26.71, 26.71, 27.45; DPG 72.09, 71.17, 74.15;
#        GenEval 54.00, 55.03, 56.81. Decoders: 119.2 images/s in one step, 3.2 of the latent one.
set -euo pipefail
cd "$(dirname "$0")/.."
source runs/paper.bash
source runs/vugen_paper.bash
vlm=facebook/Perception-LM-1B
out=out/vugen

TRAIN=${STAGE_A:-} train vugen.autoencoder --images.path "$IMAGENET/train" --out $out/autoencoder
TRAIN=${DISTIL:-} launched distill $out/autoencoder --out $out/distil
python benchmarks/vugen.py --decoders $out/{autoencoder,distil} --batch 64 --device "$DEVICE" | tee $out/efficiency.json

TRAIN=${TOWER:-} train vugen.plm_1b --model.target.folder $out/distil --images.path "$CAPTIONED" --out $out/plm_1b
for row in decoupled repa; do
  TRAIN="${TOWER:-} ${BASELINE:-}" train vugen.$row --images.path "$CAPTIONED" --out $out/$row
done
measured $out/table1 $vlm $out/{decoupled,repa,plm_1b}
