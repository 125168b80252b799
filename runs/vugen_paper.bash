# Sourced by vugen_plm_1b.sh and vugen_janus_1b.sh after paper.bash: where VUGEN's data lies, and how Table 1 is measured.
#
# CAPTIONED  images with NAME.txt beside each, for the towers; the paper's StockMix is nobody else's
# COCO       captions.jsonl, 30,000 lines of {"prompt", "id"} of val2014, and images/, the pictures they are of
# DPG        DPG-Bench's dpg_bench.csv
# STAGE_A, DISTIL, TOWER, BASELINE   more options for the trainings, the last for Decoupled and REPA, as TRAIN is for DCDD's
# shellcheck shell=bash

CAPTIONED=${CAPTIONED:-captioned}
COCO=${COCO:-coco}
DPG=${DPG:-dpg_bench/dpg_bench.csv}

# measured OUT VLM DECODERS...: COCO (FID, CLIPScore, density, coverage), GenEval and DPG-Bench, each model with its guidance.
measured() {
  local out=$1 how=(--vlm "$2" --decoder "${@:3}" --decode-batch 16 --device "$DEVICE")
  detok generate --prompts "$COCO/captions.jsonl" "${how[@]}" --out "$out/coco"
  detok evaluate "$out/coco" --reference "$COCO/images" --protocol evalgim-coco --device "$DEVICE" --out "$out/coco/evaluated"
  detok generate --bench geneval --bench-file "$GENEVAL" "${how[@]}" --out "$out/geneval"
  detok evaluate "$out/geneval" --bench geneval --judge facebook/mask2former-swin-small-coco-instance \
    --colour-judge openai/clip-vit-large-patch14 --device "$DEVICE" --out "$out/geneval/evaluated"
  detok generate --bench dpg --bench-file "$DPG" "${how[@]}" --out "$out/dpg"
  detok evaluate "$out/dpg" --bench dpg --bench-file "$DPG" --judge Qwen/Qwen2.5-VL-7B-Instruct --device "$DEVICE" \
    --out "$out/dpg/evaluated"
}
