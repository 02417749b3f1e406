#!/usr/bin/env bash
# All CUDA tests and measurements of the core in one go, in minutes, without ROS, OpenVINO
# or network: writes on_gpu.json, on_gpu.md and on_gpu.log.
#
#   benchmarks/on_gpu.sh [--wheels FOLDER] [--out FOLDER] [--quick] [--device cpu] [--parts ...]
#
# Needs Linux with CUDA, and Python with torch, torchvision, timm, numpy, OpenCV, safetensors,
# pytest and pip. What is missing beyond these is taken from the wheels in FOLDER, into a temporary
# folder. --device cpu rehearses all of it without a GPU. PYTHON names another interpreter.
set -euo pipefail
python=${PYTHON:-python3}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

wheels=
others=()
while (($#)); do
    case $1 in
        --wheels) wheels=${2:?on_gpu: --wheels: expected a folder}; shift 2 ;;
        *) others+=("$1"); shift ;;
    esac
done

missing() {  # the wheels of a folder that hold a module that Python does not find
    "$python" - "$1" <<'PYTHON'
from importlib.util import find_spec
from pathlib import Path
import sys
import zipfile

for wheel in sorted(Path(sys.argv[1]).glob('*.whl')):
    tops = {name.split('/')[0] for name in zipfile.ZipFile(wheel).namelist()}
    modules = {top.split('.')[0] for top in tops if not top.endswith(('.dist-info', '.data'))}
    if not all(find_spec(module) for module in modules):
        print(wheel)
PYTHON
}

target=$(mktemp -d)
trap 'rm -rf "$target"' EXIT
if [[ -n $wheels ]]; then
    [[ -d $wheels ]] || { echo "on_gpu: --wheels: expected a folder, found none at $wheels" >&2
                          exit 2; }
    found=$(missing "$wheels")
    mapfile -t files < <(printf '%s' "$found")
    if ((${#files[@]})); then
        echo "on_gpu: takes from $wheels: $(basename -a "${files[@]}" | paste -sd ' ')"
        "$python" -m pip install --quiet --no-index --no-deps --no-compile --upgrade \
            --disable-pip-version-check --root-user-action=ignore --target "$target" "${files[@]}"
    fi
fi
export PYTHONPATH="$target:$root${PYTHONPATH:+:$PYTHONPATH}"
"$python" "$root/benchmarks/on_gpu.py" "${others[@]}"
