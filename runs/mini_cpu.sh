#!/usr/bin/env bash
# The whole embedded stack, from nothing: judge, latent space, tokenizer, VLM, calibration, decoder, the rows of Table 4.
#
# On:    2 CPU cores, 4 GB of memory, 3 GB of disk. No network, no GPU.
# Takes: a night. On two cores that were shared now and then: 75 min (judge and tokenizer beside the latent space), 5 h
#        (VLM beside the way back to pixels and the decoder), 15 min (six rows, two at a time).
# Makes: out/mini/*, and at the end the package's own weights in src/detokenizers/embedded/mini.
# Stop it whenever you like; run again, it goes on where it was. Look at out/mini/*/loss.png and preview.png meanwhile.
#
#     runs/mini_cpu.sh
set -euo pipefail
cd "$(dirname "$0")/.."
set -m # every lane is a process group, so that stopping this script stops what it started
trap 'for lane in $(jobs -p); do kill -- "-$lane" 2>/dev/null || true; done' EXIT

# Two processes with one thread each beat one with two: convolutions this small spend a second thread on waiting.
export OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
mini=out/mini
embedded=src/detokenizers/embedded/mini

# part FOLDER FILE RECIPE OPTIONS...: train unless FILE, which a run writes last, is there already.
part() {
  local folder=$mini/$1 file=$2
  shift 2
  [ -e "$folder/$file" ] || detok train "$@" --out "$folder"
}

side_by_side() {
  "$1" & local first=$!
  "$2" & local second=$!
  wait "$first"
  wait "$second"
}

# 1. The judge teaches the tokenizer what to keep; the latent space needs neither.
judge_and_tokenizer() {
  part world_net world_net.yaml mini.world_net
  part tokenizer/codes config.json mini.tokenizer --judge $mini/world_net
  part tokenizer config.json mini.tokenizer_decoder --keep-codes $mini/tokenizer/codes --judge $mini/world_net
}
latent_space() {
  part latents config.json mini.autoencoder
}
side_by_side judge_and_tokenizer latent_space

# 2. The VLM draws in the tokenizer's codes. The decoder is trained on images alone, so it need not wait for the VLM, nor
#    for its calibration: it begins with the sharpness that the embedded VLM had, and the rows of step 4 have their own.
vlm() {
  part vlm model.safetensors mini.vlm --tokenizer $mini/tokenizer
}
decoder() {
  part autoencoder config.json mini.autoencoder_decoder --keep-latents $mini/latents --judge $mini/world_net
  part dcdd decoder.yaml dcdd.mini --vlm $mini/tokenizer --decoder.space.name $mini/autoencoder \
    --calibration None --decoder.calibration.kappa 284.21875
}
side_by_side vlm decoder

# 3. How certain is the VLM, and which sharpness makes the encoder as certain?
[ -e $mini/calibration.json ] ||
  detok calibrate --vlm $mini/vlm --num-prompts 100 --world 1000 --kappa-range 10 400 --epsilons 0 \
    --out $mini/calibration.json
calibrated=(--calibration $mini/calibration.json)

# 4. Six rows from one start, under one budget; only what the decoder reads differs.
row() {
  local name=$1
  shift
  part "rows/$name" decoder.yaml "dcdd.mini_$name" \
    --start $mini/dcdd --vlm $mini/vlm --decoder.space.name $mini/autoencoder "$@"
}
paper_rows() {
  row hard
  row lcdm
  row lc "${calibrated[@]}"
}
rows_beyond() {
  row committed "${calibrated[@]}"
  row teacher_forced "${calibrated[@]}"
  row both "${calibrated[@]}"
}
side_by_side paper_rows rows_beyond

# 5. Into the package: everything but what only training needs.
ship() {
  rm -rf "${embedded:?}/$2"
  mkdir -p "$embedded/$2"
  tar -C "$mini/$1" --exclude='./state*' --exclude=./log.jsonl --exclude='*.png' -cf - . | tar -C "$embedded/$2" -xf -
}
ship world_net world_net
ship autoencoder vae
ship vlm vlm
ship dcdd dcdd
cp $mini/calibration.json $embedded/dcdd/calibration.json
du -sh $embedded/*
