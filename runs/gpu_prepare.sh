#!/usr/bin/env bash
# Fetch what a bare GPU machine lacks, so that the other gpu_*.sh scripts run there without a network.
#
# On:    a machine with pip and a network, here; the GPU machine must have Python 3.12 and PyTorch for its card.
# Takes: a minute.
# Makes: .whl/*.whl, about 10 MB, ignored by git (in .git/info/exclude). Take the folder along with the checkout; scripts
#        install from it when they find it. Our own code needs no wheel: it runs from src, so it is never a stale copy.
#
# The list is what an image with torch, transformers, accelerate, safetensors, scipy, matplotlib, einops and jaxtyping does
# not have. Elsewhere: PACKAGES="..." PYTHON_VERSION=3.11 runs/gpu_prepare.sh
#
#     runs/gpu_prepare.sh
set -euo pipefail
cd "$(dirname "$0")/.."

PACKAGES=${PACKAGES:-"diffusers==0.42.1 importlib-metadata tyro==1.0.17 docstring-parser typeguard
  pydantic==2.14.3 pydantic-core==2.50.4 typing-inspection annotated-types typing-extensions"}
platforms=()
for glibc in 2_28 2_27 2_17; do platforms+=(--platform "manylinux_${glibc}_x86_64"); done
platforms+=(--platform manylinux2014_x86_64 --platform manylinux1_x86_64)

rm -rf .whl # two versions of one package stop the whole install
mkdir -p .whl
exclude=$(git rev-parse --git-path info/exclude 2>/dev/null || true)
if [ -n "$exclude" ] && ! grep -qsx '/.whl/' "$exclude"; then
  mkdir -p "$(dirname "$exclude")"
  echo '/.whl/' >>"$exclude"
fi
# shellcheck disable=SC2086
python3 -m pip download -q --no-deps --only-binary=:all: --implementation cp --python-version "${PYTHON_VERSION:-3.12}" \
  "${platforms[@]}" -d .whl $PACKAGES
du -sh .whl
