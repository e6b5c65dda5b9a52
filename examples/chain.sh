#!/usr/bin/env bash
# The five commands in a row on a model made from nothing, as CI would run them:
#     examples/chain.sh OUT [PHANTOMS] [EPOCHS] [HELD_OUT]
# Needs `llavamed` on the PATH and nothing else. With the defaults it takes a minute or two and shows that everything
# fits together; 3000 phantoms and 8 epochs learn to see (tests/end_to_end/test_phantoms_are_seen.py).
set -euo pipefail

out=$1
phantoms=${2:-48}
epochs=${3:-2}
held_out=${4:-24}

llavamed build-data phantoms:"$phantoms" --out "$out/data"
llavamed align "$out/data" --language-model tiny --vision-tower tiny --steps 20 --batch-size 16 --max-tokens 512 --lr 1.5e-3 \
    --out "$out/aligned"
llavamed tune "$out/data" "$out/data/align.jsonl" --model "$out/aligned" --epochs "$epochs" --batch-size 16 --max-tokens 512 --no-share-pictures \
    --lr 1.5e-3 --save-every 500 --out "$out/tuned"
llavamed eval "$out/tuned" blind:"$out/tuned" majority --on phantoms:"$held_out" --max-new-tokens 24 --out "$out/report"

picture=$(find "$out/data/images" -name '*.png' | sort | head -n 1)
llavamed ask "$picture" "Is there a mass?" --model "$out/tuned" --max-new-tokens 24 --json
