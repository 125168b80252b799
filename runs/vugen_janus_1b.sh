#!/usr/bin/env bash
# Ours: VUGEN's Table 1 on Janus-Pro-1B, whose weights and parts need no extra package, and whose captions can be compared.
#
# On:    GPUs with 80 GB, as for vugen_plm_1b.sh.
# Takes: as vugen_plm_1b.sh takes; the tower is half as large again (24 layers). Every step goes on where it was cut off.
# Needs: deepseek-community/Janus-Pro-1B and stabilityai/stable-diffusion-3-medium-diffusers (gated, for its VAE) from the
#        Hub; the data and networks of vugen_plm_1b.sh.
# Makes: out/vugen/janus_{autoencoder,distil,1b,decoupled,repa}, out/vugen/janus_table1/*.
#
# Paper: nothing on Janus. Understanding is compared by the letter: captions of the VLM before and after.
set -euo pipefail
cd "$(dirname "$0")/.."
source runs/paper.bash
source runs/vugen_paper.bash
vlm=deepseek-community/Janus-Pro-1B
out=out/vugen
table=$out/janus_table1
mkdir -p $table

# The paper's row of MME, MMB and MMMU says that understanding is unchanged; here a hundred captions are, to the letter.
linked "$IMAGENET/val" 'ILSVRC2012_val_*.JPEG' 1 100 $table/pictures
detok describe $table/pictures --vlm $vlm --device "$DEVICE" --out $table/before.jsonl

TRAIN=${STAGE_A:-} train vugen.janus_1b_autoencoder --images.path "$IMAGENET/train" --out $out/janus_autoencoder
TRAIN=${DISTIL:-} launched distill $out/janus_autoencoder --out $out/janus_distil
TRAIN=${TOWER:-} train vugen.janus_1b --model.target.folder $out/janus_distil --images.path "$CAPTIONED" --out $out/janus_1b
for row in decoupled repa; do
  TRAIN="${TOWER:-} ${BASELINE:-}" train vugen.$row --model.vlm $vlm --model.view.size 256 --model.view.pool 1 --images.path "$CAPTIONED" \
    --out $out/janus_$row
done
measured $table $vlm $out/janus_{decoupled,repa,1b}

detok describe $table/pictures --vlm $vlm --device "$DEVICE" --out $table/after.jsonl
cmp $table/before.jsonl $table/after.jsonl
