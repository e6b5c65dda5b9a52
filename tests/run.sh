#!/usr/bin/env bash
# Every check, in an environment of its own:  tests/run.sh [pytest arguments]
# The environment is .venv beside the repository's files (LLAVAMED_VENV names another place) and is reused.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${LLAVAMED_VENV:-$root/.venv}
"$root/examples/environment.sh" "$venv" dev
export PATH="$venv/bin:$PATH"
# Threads that spin while they wait made runs on a shared machine fifty times slower.
export OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(nproc)} HF_HUB_OFFLINE=1

cd "$root"
ruff check src tests examples
ruff format --check src tests examples
mypy
pytest "$@"
