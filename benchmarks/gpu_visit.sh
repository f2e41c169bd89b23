#!/usr/bin/env bash
# Minutes on a GPU in one command; what it answers: benchmarks/README.md.
#
#   benchmarks/gpu_visit.sh [--out FOLDER] [--wheels FOLDER] [--minutes 7] [--resume] [--rehearse] [--only CELL ...]
#
# Installs what is missing from wheels (benchmarks/gpu_wheels.sh) into a folder of its own, nothing from the network, and
# runs `python -m benchmarks.visit` from this checkout. PYTHON names the interpreter, default python3.
set -euo pipefail
since=$(date +%s)
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3}
wheels=$root/wheels
words=()
while (($#)); do
  case $1 in
    --wheels) wheels=$(realpath -m "${2:?--wheels needs a folder}") && shift 2 ;;
    --out) words+=(--out "$(realpath -m "${2:?--out needs a folder}")") && shift 2 ;;
    *) words+=("$1") && shift ;;
  esac
done

site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
missing=()
for wheel in "$wheels"/*.whl; do
  [[ -e $wheel ]] || continue
  name=$(basename "$wheel")
  "$python" - "${name%%-*}" <<'PYTHON' || missing+=("$wheel")
import importlib.metadata, sys

try:
    importlib.metadata.version(sys.argv[1])
except importlib.metadata.PackageNotFoundError:
    sys.exit(1)
PYTHON
done
if ((${#missing[@]})); then
  "$python" -m pip install -q --no-index --no-deps --no-compile --target "$site" "${missing[@]}"
fi
export PYTHONPATH=$root:$site${PYTHONPATH:+:$PYTHONPATH}
export PYTHONUNBUFFERED=1
cd "$root"
"$python" -m benchmarks.visit --since "$since" "${words[@]}" &
child=$!
trap 'kill -TERM "$child" 2>/dev/null || true' TERM INT
while :; do
  code=0
  wait "$child" || code=$?
  kill -0 "$child" 2>/dev/null || exit "$code"
done
