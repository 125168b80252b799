# Sourced by table*.sh: where the data lies, on what is computed, and how a script is tried at small size first.
#
# IMAGENET  a folder with train and val, searched in depth; MJHQ, MJHQ_META and GENEVAL as the benchmarks publish them
# GPUS=4    processes that train; DEVICE=cuda for everything else
# TRAIN     more options for every training: TRAIN='--train.steps 20 --train.batch-size 4' is a trial of an hour's work
# LAUNCH    more options for accelerate: LAUNCH='--config_file runs/fsdp2.yaml' trains in shards
# shellcheck shell=bash disable=SC2034

IMAGENET=${IMAGENET:-imagenet}
MJHQ=${MJHQ:-mjhq30k/imgs}
MJHQ_META=${MJHQ_META:-mjhq30k/meta_data.json}
GENEVAL=${GENEVAL:-geneval/prompts/evaluation_metadata.jsonl}
GPUS=${GPUS:-4}
DEVICE=${DEVICE:-cuda}

# launched VERB ARGUMENTS...: all processes first encode their share of the images, then train.
launched() {
  local more launch
  read -ra more <<<"${TRAIN:-}"
  read -ra launch <<<"${LAUNCH:-}"
  accelerate launch "${launch[@]}" --num_processes "$GPUS" -m detokenizers "$@" "${more[@]}"
}

train() { launched train "$@"; }

# linked FOLDER NAME EVERY COUNT OUT: links to every EVERYth of the pictures in FOLDER called NAME, by file name; COUNT.
linked() {
  mkdir -p "$5"
  find "$(realpath "$1")" -name "$2" | awk -F/ '{print $NF "\t" $0}' | LC_ALL=C sort |
    awk -F'\t' -v every="$3" -v count="$4" '(NR - 1) % every == 0 && ++n <= count {print $2}' |
    while read -r picture; do ln -sf "$picture" "$5/"; done
}
