#!/usr/bin/env bash
# MaDiT Tables 1 (MJHQ-30K), 2b and 3: the general tokenizer with Qwen2.5's words on both sides, then Qwen2.5-7B-Instruct
# learns its codes as words and writes images.
#
# On:    64 GPUs with 80 GB for the language model (FSDP2, runs/fsdp2.yaml), 8 for the tokenizer, one for measuring.
# Takes: the tokenizer as runs/madit_imagenet_512.sh; the language model 7.6e9 weights x 6 x 115e9 tokens = 5.2e21 FLOP, 3,650
#        H100 hours at 400 TFLOP/s (computed); 30,000 pictures about 30 H100 hours (estimate).
# Needs: $GENERAL, ten million pictures with NAME.txt beside each (PD12M, LAION-Aesthetic, LAION-Pop, JourneyDB,
#        recaptioned); $INSTRUCT, BLIP3o-60k and ShareGPT-4o-Image 45k in the same form; MJHQ-30K and GenEval.
# Makes: out/madit/general_512*, out/madit/qwen_7b*, out/madit/table3/*.
#
# Paper: MJHQ 24.90 dB / .75 / .20 / rFID 1.04 (no words 1.30, in the encoder 1.12); GenEval .79, DPG 84.63.
set -euo pipefail
cd "$(dirname "$0")/.."
source runs/paper.bash
GENERAL=${GENERAL:-general/train}
INSTRUCT=${INSTRUCT:-instruct/train}
LANGUAGE=${LANGUAGE:-Qwen/Qwen2.5-7B-Instruct}
out=out/madit

# The words that the decoder reads are the language model's before it is fine-tuned: its table is kept as it is now.
[ -e $out/qwen_words/words.safetensors ] || python scripts/build_piece_rows.py "$LANGUAGE" $out/qwen_words
train madit.general_512 --images.path "$GENERAL" --out $out/general_512
train madit.general_512_flow --start $out/general_512 --images.path "$GENERAL" --out $out/general_512_flow
detok reconstruct "$MJHQ" --vlm $out/general_512_flow --decoder $out/general_512_flow --decode-batch 8 --device "$DEVICE" \
  --out $out/table1_mjhq
detok evaluate $out/table1_mjhq --reference $out/table1_mjhq/original --protocol madit-mjhq \
  --metrics rfid ssim psnr lpips-alex lpips-vgg --device "$DEVICE" --out $out/table1_mjhq/evaluated

train madit.qwen_7b --tokenizer $out/general_512_flow --images.path "$GENERAL" --model.name "$LANGUAGE" --out $out/qwen_7b
train madit.qwen_7b_instruct --start $out/qwen_7b --tokenizer $out/general_512_flow --images.path "$INSTRUCT" \
  --model.name "$LANGUAGE" --out $out/qwen_7b_instruct
both=(--vlm $out/qwen_7b_instruct --decoder $out/general_512_flow --decode-batch 8 --device "$DEVICE")
detok generate --bench mjhq --bench-file "$MJHQ_META" "${both[@]}" --out $out/table3/mjhq
detok evaluate $out/table3/mjhq --bench mjhq --bench-file "$MJHQ_META" --reference "$MJHQ" --protocol madit-mjhq \
  --device "$DEVICE" --out $out/table3/mjhq/evaluated
detok generate --bench geneval --bench-file "$GENEVAL" "${both[@]}" --out $out/table3/geneval
detok evaluate $out/table3/geneval --bench geneval --judge facebook/mask2former-swin-small-coco-instance \
  --colour-judge openai/clip-vit-large-patch14 --device "$DEVICE" --out $out/table3/geneval/evaluated
