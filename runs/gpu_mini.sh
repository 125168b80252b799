#!/usr/bin/env bash
# The embedded stack at 128 px on one GPU: the recipes of runs/mini_cpu.sh with larger numbers, in calls of ten minutes.
#
# On:    one H100 or H200 (any CUDA GPU with 8 GB will do, slower), eight CPU cores or more: scenes are rendered in worker
#        processes, 200 to 270 a second and core at 128 px.
# Takes: three calls. Each ends by itself within LIMIT seconds; call again until it says "done". While out/ survives
#        between calls an unfinished part goes on where it was, else from its beginning; finished parts are never lost.
# Makes: out/mini128/*, previews included; with OUT set also OUT/mini128.tar.part-* of at most 15 MB each: every finished
#        part, at the end of every call. To go on elsewhere put them into .carried/ and take that folder along.
#
#     runs/gpu_prepare.sh                       # here, once: what the bare machine lacks
#     TINY=1 runs/gpu_mini.sh                   # here: the same commands on the CPU, two minutes
#     LIMIT=540 runs/gpu_mini.sh                # there, each call
#     cat $OUT/mini128.tar.part-* | tar -x -C out
set -euo pipefail
cd "$(dirname "$0")/.."
set -m # every lane is a process group, so that stopping this script stops what it started
trap 'for lane in $(jobs -p); do kill -- "-$lane" 2>/dev/null || true; done' EXIT
source runs/gpu_machine.bash

mini=out/mini128${TINY:+-tiny}
if compgen -G '.carried/mini128.tar.part-*' >/dev/null && [ ! -d "$mini" ]; then
  mkdir -p out
  cat .carried/mini128.tar.part-* | tar -x -C out
fi

# Stride 16 in the tokenizer and 8 in the latent space keep the 64 tokens of the 64 px stack.
if [ -z "$TINY" ]; then
  world=(--world.resolution 128)
  size=(--size.image-size 128 --size.grid 8 --size.vq-multipliers 1 1 1 2 2 --size.vq-channels 64 --size.vq-blocks 1
    --size.vq-latent 128 --size.codebook 2048 --size.hidden 256 --size.layers 8 --size.heads 8 --size.intermediate 704)
  vae=(--vae.channels 16 --vae.block-channels 32 64 128 128 --vae.norm-groups 16)
  net=(--decoder.net.layers 1 --decoder.net.single-layers 8 --decoder.net.heads 8 --decoder.net.latent-channels 16
    --decoder.net.stride 8 --decoder.token-stride 16)
  judge_steps=1000 tokenizer_steps=3000 vae_steps=4000 vlm_steps=15000 decoder_steps=20000 scenes=40960 batch=64 small=24
  strides=3 begin=1000 workers=3 half=(--train.precision bf16)
else
  world=(--world.resolution 32)
  size=(--size.image-size 32 --size.grid 4 --size.vq-multipliers 1 1 1 1 --size.vq-channels 32 --size.vq-blocks 0
    --size.vq-latent 32 --size.codebook 64 --size.hidden 32 --size.layers 2 --size.heads 2 --size.intermediate 64
    --size.vision-hidden 32 --size.vision-layers 1 --size.vision-heads 2)
  vae=(--vae.channels 4 --vae.block-channels 8 8 8 --vae.norm-groups 4)
  net=(--decoder.net.layers 1 --decoder.net.single-layers 1 --decoder.net.heads 2 --decoder.net.latent-channels 4
    --decoder.net.stride 4 --decoder.token-stride 8)
  judge_steps=4 tokenizer_steps=4 vae_steps=4 vlm_steps=4 decoder_steps=4 scenes=64 batch=8 small=4
  strides=2 begin=2 workers=0 half=()
fi

# part FOLDER FILE RECIPE OPTIONS...: train until FILE, which a run writes last, is there, or until time is up.
part() {
  local folder=$mini/$1 file=$2
  shift 2
  [ ! -e "$folder/$file" ] || return 0
  [ "$(left)" -gt 30 ] || return 124
  timeout --foreground -k 10 $(($(left) - 15)) "${detok[@]}" train "$@" --train.save-minutes 0.5 --train.workers $workers \
    --out "$folder"
}

# Finished parts, without what only training needs.
pack() {
  local done=() name
  for name in world_net/world_net.yaml tokenizer/config.json latents/config.json autoencoder/config.json \
    vlm/model.safetensors dcdd/decoder.yaml; do
    [ ! -e "$mini/$name" ] || done+=("$(basename "$mini")/${name%/*}")
  done
  [ ${#done[@]} = 0 ] || give_back mini128 -C out --exclude='state*' "${done[@]}"
}

# Both lanes; "out of time" is no failure, anything else is.
side_by_side() {
  local late=0 lane code
  "$1" & local first=$!
  "$2" & local second=$!
  for lane in $first $second; do
    code=0
    wait "$lane" || code=$?
    [ $code = 0 ] || [ $code = 124 ] || { pack; exit $code; }
    [ $code = 0 ] || late=1
  done
  pack
  [ $late = 0 ] || { echo "out of time after $SECONDS s; run it again, it goes on where it was"; exit 0; }
}

judge_and_tokenizer() {
  part world_net world_net.yaml mini.world_net "${world[@]}" --train.steps $judge_steps --train.batch-size $batch
  part tokenizer config.json mini.tokenizer "${world[@]}" "${size[@]}" --judge "$mini/world_net" \
    --adversary.weight 0.3 --adversary.strides $strides --adversary.start $begin \
    --train.steps $tokenizer_steps --train.batch-size $small --train.lr 1e-3
}
latent_space() {
  part latents config.json mini.autoencoder "${world[@]}" "${vae[@]}" \
    --train.steps $vae_steps --train.batch-size $small --train.lr 1e-3
}
side_by_side judge_and_tokenizer latent_space

vlm() {
  part vlm model.safetensors mini.vlm "${world[@]}" "${size[@]}" --tokenizer "$mini/tokenizer" --scenes $scenes \
    --describe 0.03 --cache "$mini/cache" --train.steps $vlm_steps --train.batch-size $batch --train.lr 1e-3 "${half[@]}"
}
decoder() {
  part autoencoder config.json mini.autoencoder_decoder "${world[@]}" "${vae[@]}" --keep-latents "$mini/latents" \
    --judge "$mini/world_net" --train.steps $vae_steps --train.batch-size $small
  # Before there is a VLM to calibrate for: the sharpness of the embedded one.
  part dcdd decoder.yaml dcdd.mini --calibration None --decoder.calibration.kappa 284.21875 \
    --images.world.resolution "${world[1]}" --images.count $scenes "${net[@]}" \
    --vlm "$mini/tokenizer" --decoder.space.name "$mini/autoencoder" --cache "$mini/cache" \
    --train.steps $decoder_steps --train.batch-size $batch --train.lr 1e-3 "${half[@]}"
}
side_by_side vlm decoder

du -sh "$mini"/*
echo "done after $SECONDS s"
