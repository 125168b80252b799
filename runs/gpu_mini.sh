#!/usr/bin/env bash
# The embedded stack at 128 px on one GPU: the recipes of runs/mini_cpu.sh with larger numbers, in calls of ten minutes.
#
# On:    one H100 or H200 (any CUDA GPU with 8 GB will do, slower), four CPU cores or more.
# Takes: two or three calls. Each ends by itself within LIMIT seconds; call again until it says "done". State is saved
#        twice a minute and out/ must survive between calls. Scenes are rendered in the training processes, 200 to 270
#        a second at 128 px on one core, so the first parts wait for the CPU and not for the GPU.
# Makes: out/mini128/*, previews included; with OUT set also OUT/mini128.tar.part-* of at most 15 MB each
#        (cat OUT/mini128.tar.part-* | tar -x).
#
#     runs/gpu_mini.sh                          # where the package is installed
#     PYTHONPATH=src LIMIT=560 runs/gpu_mini.sh # straight from a checkout
set -euo pipefail
cd "$(dirname "$0")/.."
set -m # every lane is a process group, so that stopping this script stops what it started
trap 'for lane in $(jobs -p); do kill -- "-$lane" 2>/dev/null || true; done' EXIT

export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2} HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONUNBUFFERED=1
LIMIT=${LIMIT:-560}
mini=out/mini128
command -v detok >/dev/null && detok=(detok) || detok=(python3 -m detokenizers)

# Stride 16 in the tokenizer and 8 in the latent space keep the 64 tokens of the 64 px stack.
world=(--world.resolution 128)
size=(--size.image-size 128 --size.grid 8 --size.vq-multipliers 1 1 1 2 2 --size.vq-channels 64 --size.vq-blocks 1
  --size.vq-latent 128 --size.codebook 2048 --size.hidden 256 --size.layers 8 --size.heads 8 --size.intermediate 704)
vae=(--vae.channels 16 --vae.block-channels 32 64 128 128 --vae.norm-groups 16)
net=(--decoder.net.layers 1 --decoder.net.single-layers 8 --decoder.net.heads 8 --decoder.net.latent-channels 16
  --decoder.net.stride 8 --decoder.token-stride 16)

# part FOLDER FILE RECIPE OPTIONS...: train until FILE, which a run writes last, is there, or until time is up.
part() {
  local folder=$mini/$1 file=$2 left=$((LIMIT - SECONDS))
  shift 2
  [ ! -e "$folder/$file" ] || return 0
  [ $left -gt 20 ] || return 124
  timeout --foreground -k 10 "$left" "${detok[@]}" train "$@" --train.save-minutes 0.5 --out "$folder"
}

# Both lanes; "out of time" is no failure, anything else is.
side_by_side() {
  local code=0 lane
  "$1" & local first=$!
  "$2" & local second=$!
  for lane in $first $second; do
    wait "$lane" || { code=$?; [ $code = 124 ] || exit $code; }
  done
  [ $code = 0 ] || { echo "out of time after $SECONDS s; run it again, it goes on where it was"; exit 0; }
}

judge_and_tokenizer() {
  part world_net world_net.yaml mini.world_net "${world[@]}" --train.steps 1000 --train.batch-size 64
  part tokenizer config.json mini.tokenizer "${world[@]}" "${size[@]}" --judge $mini/world_net \
    --train.steps 3000 --train.batch-size 24 --train.lr 1e-3
}
latent_space() {
  part autoencoder config.json mini.autoencoder "${world[@]}" "${vae[@]}" \
    --train.steps 4000 --train.batch-size 24 --train.lr 1e-3
}
side_by_side judge_and_tokenizer latent_space

vlm() {
  part vlm model.safetensors mini.vlm "${world[@]}" "${size[@]}" --tokenizer $mini/tokenizer --scenes 40960 \
    --describe 0.03 --train.steps 15000 --train.batch-size 64 --train.lr 1e-3 --train.precision bf16
}
decoder() {
  part dcdd dcdd.yaml dcdd.mini --images.world.resolution 128 --images.count 40960 "${net[@]}" \
    --vlm $mini/tokenizer --decoder.space.name $mini/autoencoder \
    --train.steps 20000 --train.batch-size 64 --train.lr 1e-3 --train.precision bf16
}
side_by_side vlm decoder

if [ -n "${OUT:-}" ]; then
  tar -C out --exclude='state*' -cf - mini128 | split -b 15M - "$OUT/mini128.tar.part-"
fi
du -sh $mini/*
echo "done after $SECONDS s"
