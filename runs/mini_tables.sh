#!/usr/bin/env bash
# Every table of docs/results.md on the embedded stack, by command. Name tables to make only those.
#
# On:    2 CPU cores; any device with DEVICE=cuda.
# Takes: with N=1000 on one core some 10 minutes for Table 2, 10 for Table 3, 45 for Table 4 (seven decoders, reconstruction
#        and generation, then eight variants), 30 for Table 6, 3 each for Tables 1 and 5. Pictures that are there are not drawn again.
# Needs: the embedded weights; Table 4 also the rows of runs/mini_cpu.sh in out/mini/rows.
# Makes: out/tables/TABLE/{results.md,results.json,sheet.png,...}.
#
#     runs/mini_tables.sh table1 table2
#     N=100 runs/mini_tables.sh            # all of them, quickly and roughly
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
N=${N:-1000}
DEVICE=${DEVICE:-auto}
BATCH=${BATCH:-16} # pictures a decoder draws at once
tables=out/tables
rows=out/mini/rows

# A sharpened VQ picture, the control that keeps Fréchet distances honest: the same ids, in a folder of their own.
unsharp() {
  python - "$1" "$2" <<'PYTHON'
import sys
from pathlib import Path
from PIL import Image, ImageFilter

source, target = map(Path, sys.argv[1:])
for path in source.rglob("*.png"):
    out = target / path.relative_to(source)
    out.parent.mkdir(parents=True, exist_ok=True)
    Image.open(path).convert("RGB").filter(ImageFilter.UnsharpMask(radius=1, percent=150, threshold=0)).save(out)
PYTHON
}

# Table 1: how certain are the VLM, the raw and the calibrated encoder? Below it the geometry gap. Both searches.
table1() {
  mkdir -p $tables/table1
  for search in joint paper; do
    detok calibrate --vlm mini --num-prompts 100 --world 1000 --kappa-range 10 400 --epsilons 0 --search $search \
      --device "$DEVICE" --out $tables/table1/$search.json | tee $tables/table1/$search.md
  done
}

# Table 2: reconstruction, on scenes like those trained on and on objects that no training has seen.
table2() {
  for split in validation held-out; do
    local out=$tables/table2/$split
    detok reconstruct --world "$N" --split $split --decoder vq vq-unrounded mini/vae mini/dcdd --decode-batch $BATCH \
      --device "$DEVICE" --out $out
    unsharp $out/vq $tables/table2/controls/$split/vq+unsharp
    detok evaluate $out $tables/table2/controls/$split/vq+unsharp --world "$N" --split $split --out $out/evaluated
  done
}

# Table 3: generation, from captions whose combinations no training has seen and from captions like those trained on;
# distances, and agreement overall and per category.
table3() {
  local split out
  for split in prompts validation; do
    out=$tables/table3/$split
    detok generate --world "$N" --split $split --compare --decode-batch $BATCH --device "$DEVICE" --out $out
    unsharp $out/vq $tables/table3/controls/$split/vq+unsharp
    detok evaluate $out $tables/table3/controls/$split/vq+unsharp --world "$N" --split $split --out $out/evaluated
  done
}

# variant FROM TO EDIT: a decoder that reads something else; only its decoder.yaml changes, by a sed command.
variant() {
  mkdir -p "$2"
  cp "$1"/{decoder.yaml,decoder.safetensors,codebook.safetensors} "$2/"
  [ ! -d "$1/space" ] || cp -r "$1/space" "$2/"
  sed -i "$3" "$2/decoder.yaml"
}

# Table 4: what the decoder reads, under one budget: the paper's three rows and ours, then the sampled token mixed in
# and the VLM's distributions smoothed, neither of which needs training.
table4() {
  local read=($rows/hard $rows/lcdm $rows/lc $rows/committed $rows/teacher_forced $rows/both) gamma epsilon others=()
  local out=$tables/table4
  local how=(--decode-batch $BATCH --device "$DEVICE")
  detok reconstruct --world "$N" --decoder vq "${read[@]}" "${how[@]}" --out $out/reconstruction
  detok evaluate $out/reconstruction --world "$N" --out $out/reconstruction/evaluated
  detok generate --world "$N" --decoder vq "${read[@]}" "${how[@]}" --out $out/generation
  detok evaluate $out/generation --world "$N" --split prompts --out $out/generation/evaluated

  for gamma in 0.25 0.5 0.75 1.0; do
    variant $rows/lc $out/varied/gamma-$gamma "s/^  name: expectation\$/  name: sampled_mix\n  gamma: $gamma/"
    others+=($out/varied/gamma-$gamma)
  done
  for epsilon in 0.005 0.02 0.1 0.2; do
    variant $rows/lc $out/varied/epsilon-$epsilon "s/^    epsilon: null\$/    epsilon: $epsilon/"
    others+=($out/varied/epsilon-$epsilon)
  done
  detok generate --world "$N" --decoder vq $rows/lc "${others[@]}" "${how[@]}" --out $out/otherwise
  detok evaluate $out/otherwise --world "$N" --split prompts --out $out/otherwise/evaluated
}

# Table 5: seconds from prompt to picture, medians; the distances beside them are Table 3's.
table5() {
  mkdir -p $tables/table5
  python benchmarks/latency.py --decoder mini/dcdd | tee $tables/table5/latency.json
  python benchmarks/token_loop.py | tee $tables/table5/token_loop.json
  python benchmarks/lcdm.py | tee $tables/table5/lcdm.json
}

# Table 6: how many steps? The first row of the report is the VQ decoder.
table6() {
  local steps folders=()
  detok reconstruct --world "$N" --decoder vq --device "$DEVICE" --out $tables/table6/baseline
  for steps in 5 10 15 20 25 30 35; do
    detok reconstruct --world "$N" --decoder mini/dcdd --steps $steps --decode-batch $BATCH \
      --device "$DEVICE" --out $tables/table6/steps/$steps
    folders+=($tables/table6/steps/$steps/dcdd)
  done
  detok evaluate $tables/table6/baseline "${folders[@]}" --world "$N" --out $tables/table6/evaluated
}

for table in "${@:-table1 table2 table3 table4 table5 table6}"; do
  for name in $table; do "$name"; done
done
