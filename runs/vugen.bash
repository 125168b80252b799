# Sourced by vugen_mini.sh and vugen_tables.sh: where runs lie, and the trainings that both ask for. What is there is taken.
#
# VLM=mini             the frozen VLM that is drawn with; a folder for another one
# CALIBRATION          what `detok calibrate` found for it, which DCDD's pixel decoder learns with
# VUGEN, PIXELS        folders of the runs of VUGEN, and of DCDD's pixel decoders, which mini_cpu.sh trains as well
# CACHE                what frozen encoders make of the scenes
# STAGE_A, DISTIL, TOWER, BASELINE, PIXEL   more options for these trainings, the fourth for the towers of Decoupled and REPA:
#                      a trial at small size (tests/test_vugen_scripts.py)
# shellcheck shell=bash disable=SC2034

export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
VLM=${VLM:-mini}
CALIBRATION=${CALIBRATION:-mini/dcdd/calibration.json}
VUGEN=${VUGEN:-out/vugen}
PIXELS=${PIXELS:-out/mini}
CACHE=${CACHE:-out/cache}
read -ra more_stage_a <<<"${STAGE_A:-}"
read -ra more_distil <<<"${DISTIL:-}"
read -ra more_tower <<<"${TOWER:-}"
read -ra more_baseline <<<"${BASELINE:-}"
read -ra more_pixel <<<"${PIXEL:-}"

# part FOLDER VERB...: unless decoder.yaml, which a run writes last, is there already.
part() {
  local folder=$1
  shift
  [ -e "$folder/decoder.yaml" ] || detok "$@" --out "$folder"
}

# autoencoder NAME RECIPE OPTIONS...: stage A.
autoencoder() {
  part "$VUGEN/$1" train "vugen.$2" --autoencoder.vlm "$VLM" "${more_stage_a[@]}" "${@:3}"
}

# distilled FOLDER OUT: its decoder in one step.
distilled() {
  part "$2" distill "$1" --cache "$CACHE" "${more_distil[@]}"
}

# tower NAME RECIPE OPTIONS...: stage B.
tower() {
  part "$VUGEN/$1" train "vugen.$2" --model.vlm "$VLM" --cache "$CACHE" "${more_tower[@]}" "${@:3}"
}

# The reducer that everything samples in, the decoder that everything draws with, and its one step.
drawing() {
  autoencoder autoencoder mini_autoencoder
  autoencoder decoder mini_decoder --start "$VUGEN/autoencoder"
  distilled "$VUGEN/decoder" "$VUGEN/decoder-1"
}

# DCDD's pixel decoder of eight steps, and of one.
pixels() {
  part "$PIXELS/pixels" train dcdd.mini_pixels --vlm "$VLM" --calibration "$CALIBRATION" --cache "$CACHE" "${more_pixel[@]}"
  distilled "$PIXELS/pixels" "$PIXELS/one_step"
}

# row FOLDER ROW OPTIONS...: a row of Table 1; they differ in what a tower learns to sample.
row() {
  case $2 in
    vugen) tower "$1/vugen" mini --model.target.folder "$VUGEN/decoder-1" "${@:3}" ;;
    *) tower "$1/$2" "mini_$2" "${more_baseline[@]}" "${@:3}" ;;
  esac
}
ours() { row "$1" vugen "${@:2}"; }
baselines() {
  row "$1" decoupled "${@:2}"
  row "$1" repa "${@:2}"
}
