#!/usr/bin/env bash
# DCDD Table 3: text to image with Janus-Pro-7B, both decoders from the same tokens: MJHQ-30K and GenEval.
#
# On:    one GPU with 80 GB (VLM and decoder together), or several, each with its own part of the prompts.
# Takes: about 16 s an image on an A100: 30,000 + 2,212 images are six days on one GPU. Goes on where it was cut off, and
#        pictures do not depend on how the prompts were divided.
# Needs: runs/table2_janus.sh first; MJHQ-30K's meta_data.json and pictures; GenEval's prompts and, to judge, its own code.
#        FID here is torch-fidelity's; MJHQ-30K's authors use clean-fid. Use one tool for all rows you compare.
# Makes: out/janus/table3/{mjhq,geneval}, and the layout GenEval's evaluator reads.
#
# Paper: MJHQ gFID 14.2888 -> 9.4160 overall; GenEval 77.24 -> 78.31 overall. For the VQ decoder others report 13.48 and
#        0.80, so a baseline between 13.5 and 14.3 counts as reproduced.
set -euo pipefail
cd "$(dirname "$0")/.."
MJHQ_META=${MJHQ_META:-mjhq30k/meta_data.json}
MJHQ=${MJHQ:-mjhq30k/imgs}
GENEVAL=${GENEVAL:-geneval/prompts/evaluation_metadata.jsonl}
vlm=deepseek-community/Janus-Pro-7B
out=out/janus/table3

detok generate --prompts "$MJHQ_META" --vlm $vlm --decoder vq out/janus/dcdd --device cuda --out $out/mjhq
for decoder in vq dcdd; do
  fidelity --gpu 0 --fid --samples-find-deep --samples-find-ext jpg,png \
    --input1 $out/mjhq/$decoder --input2 "$MJHQ" | tee $out/mjhq/fid_$decoder.txt
done

detok generate --prompts "$GENEVAL" --per-prompt 4 --vlm $vlm --decoder vq out/janus/dcdd --device cuda --out $out/geneval
# 00012.png, 00012-1.png, ... become 00012/samples/0000.png, ... beside the prompt's metadata.
for decoder in vq dcdd; do
  row=0
  while read -r line; do
    id=$(printf %05d $row)
    mkdir -p $out/geneval_layout/$decoder/$id/samples
    printf '%s\n' "$line" >$out/geneval_layout/$decoder/$id/metadata.jsonl
    for sample in 0 1 2 3; do
      picture=$id$([ $sample = 0 ] || printf -- "-%d" $sample).png
      ln -sf "$(realpath $out)/geneval/$decoder/$picture" $out/geneval_layout/$decoder/$id/samples/000$sample.png
    done
    row=$((row + 1))
  done <"$GENEVAL"
done
