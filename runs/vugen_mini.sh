#!/usr/bin/env bash
# VUGEN on the embedded stack, from the embedded VLM to shipped weights, with its baselines; and `dcdd.one_step`.
#
# On:    2 CPU cores, 3 GB of memory, 2 GB of disk. No network, no GPU.
# Takes: some ten hours on two cores. First lane: reducer 31 minutes, decoder 120 and its one step 40 (estimates; 5 and 1 on
#        an H200 beside a dozen others: runs/gpu_papers.py), tower 44. Second lane: DCDD's pixel decoder some seven hours and its
#        one step two (estimates; 8 and 2 minutes on an H200), Decoupled 38 minutes, REPA 40.
# Needs: the embedded VLM, VAE, judge and calibration; VLM=FOLDER and CALIBRATION=FILE for others.
# Makes: out/vugen/{autoencoder,decoder,decoder-1,seed-0/{vugen,decoupled,repa}}, out/mini/{pixels,one_step}, and at the end the
#        package's own weights in src/detokenizers/embedded/mini/{vugen,one_step}.
# Stop it whenever you like; run again, it goes on where it was. Look at loss.png and preview.png of the folders meanwhile.
#
#     runs/vugen_mini.sh
set -euo pipefail
cd "$(dirname "$0")/.."
set -m # every lane is a process group, so that stopping this script stops what it started
trap 'for lane in $(jobs -p); do kill -- "-$lane" 2>/dev/null || true; done' EXIT
source runs/vugen.bash
EMBEDDED=${EMBEDDED:-src/detokenizers/embedded/mini}

features() {
  drawing
  ours seed-0
}
distributions() {
  pixels
  baselines seed-0
}
features & first=$!
distributions & second=$!
wait "$first"
wait "$second"

# ship FOLDER NAME: into the package, everything but what only training needs; the VLM is the one beside it there.
ship() {
  rm -rf "${EMBEDDED:?}/$2"
  mkdir -p "$EMBEDDED/$2"
  tar -C "$1" --exclude='./state*' --exclude=./log.jsonl --exclude=./inputs.json --exclude='*.png' -cf - . |
    tar -C "$EMBEDDED/$2" -xf -
  find "$EMBEDDED/$2" -name decoder.yaml -exec sed -i 's|^vlm: .*|vlm: mini|' {} +
}
ship "$VUGEN/seed-0/vugen" vugen
cp "$VUGEN/decoder-1/run.yaml" "$EMBEDDED/vugen/target/" # how its decoder was trained; run.yaml beside it is the tower's
ship "$PIXELS/one_step" one_step
python scripts/shrink.py "$EMBEDDED"/{vugen/target,one_step}/decoder.safetensors
du -sh "$EMBEDDED"/{vugen,one_step}
