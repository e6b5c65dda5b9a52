#!/usr/bin/env bash
# Make (or reuse) a virtual environment with llavamed in it:  examples/environment.sh FOLDER [EXTRA]
# Reused while pyproject.toml is the same. Progress on stderr, nothing on stdout.
set -euo pipefail

folder=$1
extra=${2:-}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3}
wanted="$root $extra $(cksum <"$root/pyproject.toml")"

if [ -f "$folder/llavamed-installed" ] && [ "$(cat "$folder/llavamed-installed")" = "$wanted" ]; then
    exit 0
fi
echo "making the environment in $folder (about two minutes, 1.6 GB with the CPU build of torch)" >&2
[ -x "$folder/bin/python" ] || "$python" -m venv "$folder"
pip=("$folder/bin/python" -m pip install --quiet --disable-pip-version-check)

# torch first and pinned: a later plain "torch>=2.6" is then satisfied, whichever build this machine offers.
"${pip[@]}" "torch==${TORCH_VERSION:-2.13.0}" >&2 || "${pip[@]}" "torch>=2.6" >&2
"${pip[@]}" --editable "$root${extra:+[$extra]}" >&2
echo "$wanted" >"$folder/llavamed-installed"
