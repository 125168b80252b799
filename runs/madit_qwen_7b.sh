#!/usr/bin/env bash
# MaDiT Tables 1 (MJHQ-30K), 2b and 3: the general tokenizer with Qwen2.5's words on both sides, in the encoder and nowhere,
# then Qwen2.5-7B-Instruct learns the codes of the first as words and writes images.
#
# On:    8 GPUs with 80 GB for training, the language model in shards (FSDP2, 122 GB of weights and moments); one for measuring.
# Takes: each of three tokenizers as runs/madit_imagenet_512.sh, TEXTS=encoder_decoder trains the first alone; the
#        language model 7.6e9 weights x 6 x 115e9 tokens = 5.2e21 FLOP, 3,650 H100 hours at 400 TFLOP/s (computed); 30,000
#        pictures about 30 H100 hours (estimate). Every step goes on where it was cut off.
# Needs: $GENERAL, ten million pictures with NAME.txt beside each (PD12M, LAION-Aesthetic, LAION-Pop, JourneyDB,
#        recaptioned); $INSTRUCT, BLIP3o-60k and ShareGPT-4o-Image 45k in the same form; MJHQ-30K, GenEval and DPG-Bench;
#        black-forest-labs/FLUX.1-schnell (its vae) and the judges' weights from the Hub (docs/metrics-networks.md).
#        The cache of latents takes 147 KB an image, 1.5 TB of disk.
# Makes: out/madit/general_512*, out/madit/qwen_7b*, out/madit/{table2b,table3}/*; Table 1's MJHQ row is in table2b.
#
# Paper: MJHQ 24.90 dB / .75 / .20 / rFID 1.04 (no words 1.30, in the encoder 1.12); GenEval .79, DPG 84.63.
#
# TRAIN are further options of all trainings, DECODER of the tokenizers, WRITER of the language model.
set -euo pipefail
cd "$(dirname "$0")/.."
source runs/paper.bash
GENERAL=${GENERAL:-general/train}
INSTRUCT=${INSTRUCT:-instruct/train}
LANGUAGE=${LANGUAGE:-Qwen/Qwen2.5-7B-Instruct}
DPG=${DPG:-dpg_bench/dpg_bench.csv}
out=out/madit

# The words that the decoder reads are the language model's before it is fine-tuned: its table is kept as it is now.
[ -e $out/qwen_words/words.safetensors ] || python scripts/build_piece_rows.py "$LANGUAGE" $out/qwen_words
# Reconstruction reads the captions of MJHQ-30K too.
python scripts/link_mjhq.py "$MJHQ_META" "$MJHQ" $out/mjhq

rows=()
for text in ${TEXTS:-none encoder encoder_decoder}; do
  codes=$out/general_512 row=$out/table2b/$text
  [ "$text" = encoder_decoder ] || codes+=_$text
  TRAIN="${TRAIN:-} ${DECODER:-}" train madit.general_512 --model.trunk.text "$text" --images.path "$GENERAL" --out "$codes"
  TRAIN="${TRAIN:-} ${DECODER:-}" train madit.general_512_flow --start "$codes" --images.path "$GENERAL" --out "${codes}_flow"
  detok reconstruct $out/mjhq --vlm "${codes}_flow" --decoder "${codes}_flow" --decode-batch 8 --device "$DEVICE" --out "$row"
  rows+=("$row/${codes##*/}_flow")
done
detok evaluate "${rows[@]}" --reference "$row/original" --protocol madit-mjhq --metrics rfid ssim psnr lpips-alex lpips-vgg \
  --device "$DEVICE" --out $out/table2b/evaluated

tokenizer=$out/general_512_flow
writer() {
  LAUNCH='--config_file runs/fsdp2.yaml --fsdp_transformer_layer_cls_to_wrap Qwen2DecoderLayer' \
    TRAIN="${TRAIN:-} ${WRITER:-}" train "$@" --tokenizer $tokenizer --model.name "$LANGUAGE"
}
writer madit.qwen_7b --images.path "$GENERAL" --out $out/qwen_7b
writer madit.qwen_7b_instruct --start $out/qwen_7b --images.path "$INSTRUCT" --out $out/qwen_7b_instruct

both=(--vlm $out/qwen_7b_instruct --decoder $tokenizer --decode-batch 8 --device "$DEVICE")
detok generate --bench mjhq --bench-file "$MJHQ_META" "${both[@]}" --out $out/table3/mjhq
detok evaluate $out/table3/mjhq --bench mjhq --bench-file "$MJHQ_META" --reference "$MJHQ" --protocol madit-mjhq \
  --device "$DEVICE" --out $out/table3/mjhq/evaluated
detok generate --bench geneval --bench-file "$GENEVAL" "${both[@]}" --out $out/table3/geneval
detok evaluate $out/table3/geneval --bench geneval --judge facebook/mask2former-swin-small-coco-instance \
  --colour-judge openai/clip-vit-large-patch14 --device "$DEVICE" --out $out/table3/geneval/evaluated
detok generate --bench dpg --bench-file "$DPG" "${both[@]}" --out $out/table3/dpg
detok evaluate $out/table3/dpg --bench dpg --bench-file "$DPG" --judge Qwen/Qwen2.5-VL-7B-Instruct --device "$DEVICE" \
  --out $out/table3/dpg/evaluated
