# Sourced by gpu_*.sh: makes a bare machine able to run this checkout, and agrees on where time and files go.
#
# TINY=1   the same commands on the CPU at a size that ends in a minute or two: before a card is asked for.
# LIMIT    seconds this call may take; scripts stop by themselves in time and go on at the next call.
# OUT      where files must lie to come back, if anywhere (at most 8 files of 16 MiB, 64 MiB together).
# shellcheck shell=bash

export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONUNBUFFERED=1
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}
TINY=${TINY:-} LIMIT=${LIMIT:-560} OUT=${OUT:-}
[ -z "$TINY" ] || export ACCELERATE_USE_CPU=1 OMP_NUM_THREADS=1

if [ -d .whl ] && [ -z "$TINY" ]; then
  site=${SITE:-/tmp/site}
  python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$site" .whl/*.whl
  export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
fi
export PYTHONPATH=$PWD/src${PYTHONPATH:+:$PYTHONPATH}
command -v detok >/dev/null && [ ! -d .whl ] && detok=(detok) || detok=(python3 -m detokenizers)

# left: seconds until this call's limit.
left() { echo $((LIMIT - SECONDS)); }

# give_back NAME FOLDER FILES...: pack files of a folder into OUT, in parts small enough to come back; same content, same
# parts. Take them to the next call as FOLDER's parent says: cat NAME.tar.part-* | tar -x -C out
give_back() {
  local name=$1
  shift
  [ -n "$OUT" ] || return 0
  rm -f "$OUT/$name".tar.part-*
  tar "$@" -cf - | split -b 15M - "$OUT/$name.tar.part-"
  # shellcheck disable=SC2012
  [ "$(ls "$OUT/$name".tar.part-* | wc -l)" -le 7 ] || echo "warning: more than seven parts of $name; some may stay behind"
}
