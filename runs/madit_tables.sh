#!/usr/bin/env bash
# MaDiT's tables on the embedded stack, in both regimes. Name tables to make only those.
#
# On:    2 CPU cores; any device with DEVICE=cuda.
# Takes: with N=300 on one core some 2 min for table1, 8 for table2a and 6 for table2b in each regime, 6 for table3, 5 for janus,
#        8 for sweeps, 10 for noise, 1 for codewords and speed. Pictures that are there are not drawn again.
# Needs: out/madit/* of runs/madit_mini.sh (or MADIT, a folder laid out like it).
# Makes: out/tables/madit/TABLE/SEED/{results.md,results.json,sheet.png,...}, codewords.json, speed.json, noise.md.
#
#     N=1000 SEEDS="0 1 2" runs/madit_tables.sh table2a
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
N=${N:-300}
SEEDS=${SEEDS:-0}
DEVICE=${DEVICE:-auto}
BATCH=${BATCH:-16} # pictures a decoder draws at once
REPEATS=${REPEATS:-3} # of what is timed
LAYERS=${LAYERS:-30}  # of the language model that is timed; 30 are those of SmolLM2-135M
trained=${MADIT:-out/madit}
janus=${JANUS:-$trained/mini_janus}
read -ra beside <<<"${BESIDE:-}" # more decoders for Tables 1 and 3, VUGEN's for instance
tables=${TABLES:-out/tables}/madit
how=(--world "$N" --decode-batch "$BATCH" --device "$DEVICE")

# variant FROM TO KEY=VALUE...: the same weights, drawing otherwise.
variant() { python scripts/vary_decoder.py "$@"; }

# reconstructed OUT TOKENIZER DECODERS...: draw with every seed, measure.
reconstructed() {
  local out=$1 vlm=$2 seed
  shift 2
  for seed in $SEEDS; do
    detok reconstruct --vlm "$vlm" --decoder "$@" "${how[@]}" --seed "$seed" --out "$out/$seed"
    detok evaluate "$out/$seed" --world "$N" --seed "$seed" --out "$out/$seed/evaluated"
  done
}

# Table 1: reconstruction beside the mini VLM's own decoder and DCDD, on the same images. 640 bits an image each; the
# codewords' mean latents (`vq` of MaDiT's codes) are what its tokens hold without any decoder.
table1() {
  local seed out=$tables/table1
  for seed in $SEEDS; do
    detok reconstruct --decoder vq mini/dcdd mini/vae "${beside[@]}" "${how[@]}" --seed "$seed" --out "$out/$seed/mini"
    detok reconstruct --vlm "$trained/mini_flow" --decoder vq "$trained/mini_flow" "${how[@]}" --seed "$seed" \
      --out "$out/$seed/madit"
    detok evaluate "$out/$seed/mini" "$out/$seed/madit/mini_flow" --world "$N" --seed "$seed" \
      --out "$out/$seed/evaluated"
    detok evaluate "$out/$seed/madit/vq" --world "$N" --seed "$seed" --out "$out/$seed/codewords"
  done
}

# Table 2a: rows are sampling settings of one decoder, guidance constant so that orders compare; then orders beyond the paper's.
table2a_of() {
  local name=$1 from=$trained/$1 out=$tables/table2a/$1 of=sampling random='{kind: random}'
  variant "$from" "$out/rows/regression" $of.decoding='{kind: regression}' $of.order.score="$random" $of.guidance.weight=1.0
  variant "$from" "$out/rows/regression-cfg" $of.decoding='{kind: regression}' $of.order.score="$random"
  variant "$from" "$out/rows/flow" $of.order.score="$random" $of.guidance.weight=1.0
  variant "$from" "$out/rows/cfg" $of.order.score="$random"
  variant "$from" "$out/rows/kl" $of.order.score='{kind: codeword_kl}'
  variant "$from" "$out/rows/kl-descending" $of.order.score='{kind: codeword_kl}' $of.order.descending=true
  variant "$from" "$out/rows/kl-posterior" $of.order.score='{kind: posterior_kl}'
  variant "$from" "$out/rows/variance" $of.order.score='{kind: codeword_variance}'
  variant "$from" "$out/rows/raster" $of.order.score='{kind: raster}'
  reconstructed "$out" "$from" "$out"/rows/{regression,regression-cfg,flow,cfg,kl,kl-descending,kl-posterior,variance,raster}
}
table2a() {
  table2a_of mini_flow
  table2a_of mini_sixteen_both_flow
}

# Table 2b: words in neither side, in the encoder, in both; random and learnt ones as controls, if they were trained. A
# training each, so as many sets of tokens of the same images.
table2b() {
  local seed name out=$tables/table2b drawn
  for seed in $SEEDS; do
    drawn=()
    for name in mini_sixteen_{,encoder_,both_,random_,learned_}flow; do
      [ -d "$trained/$name" ] || continue
      detok reconstruct --vlm "$trained/$name" --decoder "$trained/$name" "${how[@]}" --seed "$seed" --out "$out/$seed/$name"
      drawn+=("$out/$seed/$name/$name")
    done
    detok evaluate "${drawn[@]}" --world "$N" --seed "$seed" --out "$out/$seed/evaluated"
  done
}

# Table 3: text to image, beside the mini VLM with its own decoder and DCDD.
table3() {
  local seed out=$tables/table3
  for seed in $SEEDS; do
    detok generate --decoder vq mini/dcdd "${beside[@]}" "${how[@]}" --seed "$seed" --out "$out/$seed/mini"
    detok generate --vlm "$trained/mini_language" --decoder "$trained/mini_flow" "${how[@]}" --seed "$seed" --out "$out/$seed/madit"
    detok evaluate "$out/$seed/mini" "$out/$seed/madit/mini_flow" --world "$N" --split prompts --seed "$seed" \
      --out "$out/$seed/evaluated"
    detok evaluate "$out/$seed/madit" --world "$N" --split prompts --metrics codebook fd-world --seed "$seed" --out "$out/$seed/usage"
  done
}

# MaDiT as a decoder of the mini VLM's own codes, which it draws from hard tokens: beside the VQ decoder and DCDD.
janus() {
  local seed out=$tables/janus
  for seed in $SEEDS; do
    detok reconstruct --decoder vq mini/dcdd "$janus" "${how[@]}" --seed "$seed" --out "$out/$seed/reconstruction"
    detok evaluate "$out/$seed/reconstruction" --world "$N" --seed "$seed" --out "$out/$seed/reconstruction/evaluated"
    detok generate --decoder vq mini/dcdd "$janus" "${how[@]}" --seed "$seed" --out "$out/$seed/generation"
    detok evaluate "$out/$seed/generation" --world "$N" --split prompts --seed "$seed" --out "$out/$seed/generation/evaluated"
  done
}

# Rounds, flow steps and guidance; what they cost is in speed.json.
sweeps() {
  local rounds steps weight name from out=$tables/sweeps folders=()
  for name in mini_flow mini_sixteen_both_flow; do
    from=$trained/$name folders=()
    for rounds in 1 2 4 8 16; do
      variant "$from" "$out/$name/rows/rounds-$rounds" sampling.rounds=$rounds
      folders+=("$out/$name/rows/rounds-$rounds")
    done
    for steps in 2 5 20; do
      variant "$from" "$out/$name/rows/flow-steps-$steps" sampling.decoding.steps=$steps
      folders+=("$out/$name/rows/flow-steps-$steps")
    done
    for weight in 1.0 2.0 3.0; do
      variant "$from" "$out/$name/rows/guidance-$weight" sampling.guidance.weight=$weight
      folders+=("$out/$name/rows/guidance-$weight")
    done
    reconstructed "$out/$name" "$from" "${folders[@]}"
  done
}

# What drawing costs, beside Algorithm 1 as the paper writes it, at equal outputs.
speed() {
  mkdir -p $tables
  python benchmarks/madit_drawing.py --decoder "$trained/mini_flow" --rounds 1 4 8 16 --repeats "$REPEATS" | tee $tables/speed.json
  python benchmarks/visual_words.py --layers "$LAYERS" | tee -a $tables/speed.json
}

# How the codebook is used, and what the KL measures: rank correlation of scores with gradient energy, brightness, distance from grey.
codewords() {
  local name
  mkdir -p $tables
  for name in mini_flow mini_sixteen_both_flow; do
    python benchmarks/madit_codewords.py --decoder "$trained/$name" --world "$N"
  done | tee $tables/codewords.json
}

# E1: a language model's doubt at its own tokens, a share of them replaced by samples; hard tokens, distributions, both, controls.
noise() {
  mkdir -p $tables
  python benchmarks/madit_noise.py --vlm "$trained/mini_language" --hard "$trained/mini_more" \
    --both "$trained/mini_distributions" --world "$N" | tee $tables/noise.md
  # E2: text to image, from the same tokens.
  local seed
  for seed in $SEEDS; do
    detok generate --vlm "$trained/mini_language" --decoder "$trained"/{mini_more,mini_distributions} "${how[@]}" --seed "$seed" \
      --out "$tables/noise/$seed"
    detok evaluate "$tables/noise/$seed" --world "$N" --split prompts --seed "$seed" --out "$tables/noise/$seed/evaluated"
  done
}

for name in "${@:-table1 table2a table2b table3 janus sweeps speed codewords noise}"; do
  for each in $name; do "$each"; done
done
