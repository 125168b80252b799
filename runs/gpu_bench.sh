#!/usr/bin/env bash
# Speed and memory at full size on random weights: every GPU row of docs/performance.md.
#
# On:    one H100 or H200 with 80 GB (the training step needs 64 and activations), bare or not: see runs/gpu_prepare.sh.
# Takes: two calls of ten minutes. Each ends by itself within LIMIT seconds; call again until it says "done". A row that
#        has been measured is not measured again; to go on elsewhere put bench.jsonl into .carried/ and take that along.
# Makes: out/bench/NAME.jsonl, one row each; with OUT set also OUT/bench.jsonl, all rows so far, and OUT/bench.log.
#
#     TINY=1 runs/gpu_bench.sh                  # here: the same commands on the CPU
#     LIMIT=560 runs/gpu_bench.sh               # there
set -euo pipefail
cd "$(dirname "$0")/.."
source runs/gpu_machine.bash

rows=out/bench${TINY:+-tiny}
mkdir -p "$rows"
log=$rows/bench.log
if [ -z "$TINY" ]; then
  device=cuda half=bfloat16 one=1b seven=7b twelve=12b tokens=576 codes=16384 repeats=30 images=3 long=512
  loops=(eager recorded fused) loop=recorded learning=8 marked=cuda
else
  device=cpu half=bfloat16 one=tiny seven=tiny twelve=tiny tokens=16 codes=256 repeats=5 images=2 long=6
  loops=(eager) loop=eager learning=2 marked=cpu
fi
if [ -z "$TINY" ] && [ -s .carried/bench.jsonl ]; then # one line per row, its name first
  while IFS=$'\t' read -r name row; do echo "$row" >>"$rows/$name.jsonl.carried"; done <.carried/bench.jsonl
  for file in "$rows"/*.carried; do mv -n "$file" "${file%.carried}"; done
fi

collect() {
  [ -n "$OUT" ] || return 0
  cp "$log" "$OUT/bench.log" 2>/dev/null || true
  for file in "$rows"/*.jsonl; do
    [ ! -s "$file" ] || sed "s|^|$(basename "$file" .jsonl)\t|" "$file"
  done >"$OUT/bench.jsonl"
}
trap collect EXIT

# bench NAME SECONDS SCRIPT OPTIONS...: make the row NAME unless it is there or fewer than SECONDS are left.
late=0
bench() {
  local name=$1 needs=$2
  shift 2
  [ ! -s "$rows/$name.jsonl" ] || return 0
  [ "$(left)" -gt "$needs" ] || { late=1; return 0; }
  echo "== $name after $SECONDS s" | tee -a "$log"
  if timeout -k 10 $(($(left) - 10)) python3 "benchmarks/$1.py" "${@:2}" --device $device >"$rows/$name.part" 2>>"$log"; then
    mv "$rows/$name.part" "$rows/$name.jsonl"
    cat "$rows/$name.jsonl" 2>/dev/null || true
  else
    echo "$name failed; the end of $log says why" | tee -a "$log"
    tail -n 3 "$log"
    late=1
  fi
}

# Shortest first: a card that is lent for a minute still leaves something.
bench lcdm 20 lcdm --tokens $tokens --codes $codes --repeats $repeats
bench loop-1b-b1 90 token_loop --shape $one --dtype $half --batch 1 --images $images --loop "${loops[@]}"
bench loop-7b-b1 120 token_loop --shape $seven --dtype $half --batch 1 --images $images --loop "${loops[@]}"
bench loop-7b-b16 120 token_loop --shape $seven --dtype $half --batch 16 --images 1 --loop "${loops[@]}"
bench decoder 120 decoder --shape $twelve --dtype $half --repeats $repeats --text 0 $long
bench learning 120 learning_step --shape $twelve --dtype $half --batch $learning --repeats $repeats
bench learning-text 120 learning_step --shape $twelve --dtype $half --batch $learning --repeats $repeats --text $long
bench latency 200 latency --shape $seven --dtype $half --loop $loop --repeats $repeats
bench latency-text 200 latency --shape $seven --dtype $half --loop $loop --text $long --repeats 10
bench loop-1b-b16 90 token_loop --shape $one --dtype $half --batch 16 --images 1 --loop "${loops[@]}"
bench decoder-compiled 180 decoder --shape $twelve --dtype $half --repeats $repeats --text 0 --compile
if [ -z "$TINY" ] && [ ! -e "$rows/numerics" ] && [ "$(left)" -gt 90 ]; then # bf16 against fp32 on the card itself
  python3 -m pytest -q tests/test_numerics.py -k $marked 2>&1 | tee -a "$log" && touch "$rows/numerics"
fi
[ $late = 0 ] && echo "done after $SECONDS s" || echo "not all after $SECONDS s; run it again, it goes on where it was"
