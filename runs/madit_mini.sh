#!/usr/bin/env bash
# MaDiT on the embedded stack, from nothing: codes and decoder in both regimes, the language model that writes the codes,
# the reader of distributions with its control, and the decoder of the mini VLM's own codes. Name parts to make only those.
#
# On:    one CPU core, 2 GB of memory, 1 GB of disk; any device that accelerate finds.
# Takes: on one core some 25 min for `codes`, 10 for `flow`, 60 for `language`, 25 for `sixteen`, 50 for `words` and for
#        `controls`, 20 for `distributions`, 30 for `janus`, 10 for `full`. Stop it whenever you like; run again, it goes on where it was.
# Makes: out/madit/* (or MADIT, another folder); `ship` copies what the package carries into src/detokenizers/embedded/mini.
#
#     runs/madit_mini.sh codes flow
#     TRAIN='--train.steps 20 --images.count 64' runs/madit_mini.sh    # a trial of all of it; DECODER and WRITER are further
#                                                                      # options of decoders, and of the language model
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
out=${MADIT:-out/madit}
embedded=${EMBEDDED:-src/detokenizers/embedded/mini}
read -ra more <<<"${TRAIN:-}"
read -ra decoder <<<"${DECODER:-}"
read -ra writer <<<"${WRITER:-}"

# part FOLDER RECIPE OPTIONS...: train a decoder unless it is there.
part() {
  local folder=$out/$1
  shift
  [ -e "$folder/decoder.yaml" ] || detok train "$@" "${more[@]}" "${decoder[@]}" --out "$folder"
}

# One token a patch, as the paper has it.
codes() { part mini madit.mini; }
flow() { part mini_flow madit.mini_flow --start "$out/mini"; }
full() { part mini_full madit.mini_full --start "$out/mini"; }
language() {
  [ -e "$out/mini_language/visual_vocabulary.yaml" ] ||
    detok train madit.mini_language --tokenizer "$out/mini_flow" "${more[@]}" "${writer[@]}" --out "$out/mini_language"
}

# Fewer tokens than patches, where context, order and words have work to do: 16 over 64.
sixteen() {
  part mini_sixteen madit.mini_sixteen
  part mini_sixteen_flow madit.mini_sixteen_flow --start "$out/mini_sixteen"
}
encoder() {
  part mini_sixteen_encoder madit.mini_sixteen_encoder
  part mini_sixteen_encoder_flow madit.mini_sixteen_flow --start "$out/mini_sixteen_encoder"
}
both() {
  part mini_sixteen_both madit.mini_sixteen_both
  part mini_sixteen_both_flow madit.mini_sixteen_both_flow --start "$out/mini_sixteen_both"
}
controls() { # of Table 2b: words that mean nothing, and words that are learnt from scratch, in both sides
  local name
  [ -e "$out/random_words/words.safetensors" ] || python scripts/random_words.py mini/words "$out/random_words"
  for name in random learned; do
    part mini_sixteen_$name madit.mini_sixteen_$name --model.words "$out/random_words"
    part mini_sixteen_${name}_flow madit.mini_sixteen_both_flow --start "$out/mini_sixteen_$name"
  done
}
words() { # Table 2b's other rows
  encoder
  both
}

# Beyond the paper.
distributions() {
  part mini_distributions madit.mini_distributions --start "$out/mini_flow" --language "$out/mini_language"
  part mini_more madit.mini_more --start "$out/mini_flow"
}
janus() { part mini_janus madit.mini_janus; }

ship() { # what is there; the language model's codes are those of mini/madit, which lies beside it
  local pair target
  for pair in mini_flow:madit mini_language:madit-llm mini_janus:madit-janus; do
    [ -d "$out/${pair%:*}" ] || continue
    target=$embedded/${pair#*:}
    rm -rf "$target"
    mkdir -p "$target"
    tar -C "$out/${pair%:*}" --exclude='./state*' --exclude=./log.jsonl --exclude=./inputs.json --exclude='*.png' -cf - . |
      tar -C "$target" -xf -
  done
  [ ! -d "$embedded/madit-janus" ] || python scripts/shrink.py "$embedded/madit-janus/decoder.safetensors"
  target=$embedded/madit-llm
  if [ -d "$target/tokenizer" ] && cmp -s {"$target","$embedded/madit"}/tokenizer/tokenizer.safetensors; then
    rm -r "$target/tokenizer"
    sed -i 's|^tokenizer: .*|tokenizer: mini/madit|' "$target/visual_vocabulary.yaml"
  fi
}

for name in "${@:-codes flow language sixteen words controls distributions janus full}"; do
  for each in $name; do "$each"; done
done
