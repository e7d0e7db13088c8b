#!/usr/bin/env bash
# Measures on an accelerator that is there for a quarter of an hour, offline:
#
#     CMWJAX_DATA_DIR=FOLDER bash benchmarks/gpu.sh OUT [steps|recipes]
#
# `steps`, at most four minutes: what a step costs, beside PyTorch on the same card.
# `recipes`, at most nine: accuracy after configs/cifar.py:...,short; FOLDER holds
# cifar10.npz. By default both. What tells most comes first, and every row is a line of
# OUT/steps.jsonl or OUT/recipes.jsonl as soon as it is there; OUT/log has the rest. A
# recipe that was cut off has a row that says so, and goes on from its last checkpoint, in
# OUT.runs, when the same command is given again.
#
# WHEELS=FOLDER   installs all wheels of a folder first, for what the machine lacks
# PYTHON=python3  the interpreter
# REHEARSE=1      the same in small, on a CPU, to try every line before
# STEPS_SECONDS, RECIPES_SECONDS, ROW_SECONDS: other limits than 240, 540 and, for a
#                 recipe, 240
set -euo pipefail
out=${1:?give a folder for the results}
stage=${2:-both}
case $stage in
  steps | recipes | both) ;;
  *) echo "$stage is no stage; give steps, recipes or nothing, for both" >&2; exit 2 ;;
esac
mkdir -p "$out" "$out.runs"
out=$(cd "$out" && pwd)
runs=$out.runs
wheels=${WHEELS:+$(cd "$WHEELS" && pwd)}
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python}
exec > >(tee -a "$out/log") 2>&1

# Without a card JAX says so, instead of measuring the CPU.
export JAX_PLATFORMS=${JAX_PLATFORMS:-cuda,cpu} PYTHONUNBUFFERED=1 PYTHONPATH=$PWD
export JAX_COMPILATION_CACHE_DIR=$runs/compiled
step_options=(--models=preact_resnet18,resnet32 --batch_size=128)
torch_options=(--compile)
recipe_options=(--config.compare.seeds='(0,)')
if [ "${REHEARSE:-}" ]; then
  export JAX_PLATFORMS=cpu CUDA_VISIBLE_DEVICES=
  step_options=(--models=resnet8 --batch_size=16 --at_least=0.1)
  torch_options=()
  recipe_options+=(
    --config.data.train_size=1280 --config.steps_per_call=5
    --config.epochs=4 --config.warmup_epochs=1 --config.ema.freeze_epoch=3
    --config.checkpoint.every_steps=20
    --config.model.options='{"width": 4, "stage_sizes": (1, 1), "dtype": "bfloat16"}'
  )
fi
if [ "$wheels" ]; then
  "$python" -m pip install --quiet --no-index --no-deps --no-compile --upgrade \
    --target "$runs/site" "$wheels"/*.whl
  export PYTHONPATH=$PYTHONPATH:$runs/site
fi

# seconds_for AT_MOST: what a part may take of the time until $deadline; fails if nothing.
seconds_for() {
  local left=$((deadline - SECONDS))
  echo $((left < $1 ? left : $1))
  ((left >= 10))
}

# steps SCRIPT DTYPE AT_MOST OPTIONS...: rows of one script of this folder.
steps() {
  local seconds
  seconds=$(seconds_for "$3") || { echo "$1 $2: no time left"; return; }
  echo "== $1 $2, at most $seconds s"
  timeout --kill-after=5 "$seconds" "$python" "benchmarks/$1.py" --dtype="$2" \
    --seconds="$seconds" --jsonl="$out/steps.jsonl" "${step_options[@]}" "${@:4}" ||
    echo "$1 $2: exit code $?"
}

# recipe BIAS METHOD ARGUMENTS: one run of configs/cifar.py, and its row.
recipe() {
  local seconds code=0 begin=$SECONDS workdir=$runs/$1-$2
  seconds=$(seconds_for "${ROW_SECONDS:-240}") || { echo "$1 $2: no time left"; return; }
  echo "== $1 $2, at most $seconds s"
  # SIGTERM makes a run save and leave with code 75.
  timeout --preserve-status --kill-after=20 "$((seconds - 8))" "$python" run.py \
    --config="configs/cifar.py:$3,methods=$2,short" --workdir="$workdir" \
    "${recipe_options[@]}" || code=$?
  "$python" - "$workdir/$2/seed_0/metrics.jsonl" "$1" "$2" "$code" \
    "$((SECONDS - begin))" >> "$out/recipes.jsonl" <<'EOF'
import json, pathlib, statistics, sys

path, bias, method, code, seconds = sys.argv[1:]
file = pathlib.Path(path)
epochs = [json.loads(x) for x in file.read_text().splitlines()] if file.exists() else []
shown = ("epoch", "test_accuracy", "net_accuracy", "teacher_accuracy", "meta_purity")
row = {"bias": bias, "method": method, "exit_code": int(code), "seconds": int(seconds)}
if epochs:
    row |= {name: epochs[-1][name] for name in shown if name in epochs[-1]}
    row["seconds_per_epoch"] = statistics.median(x["seconds"] for x in epochs)
print(json.dumps(row))
EOF
  tail -n 1 "$out/recipes.jsonl"
}

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv > "$out/device.csv" ||
  echo "no nvidia-smi here" > "$out/device.csv"

if [ "$stage" != recipes ]; then
  deadline=$((SECONDS + ${STEPS_SECONDS:-240}))
  steps gpu_steps bfloat16 130 --trace="$out"
  steps torch_steps bfloat16 40 "${torch_options[@]}"
  steps gpu_steps float32 60
  steps torch_steps float32 40
fi
if [ "$stage" != steps ]; then
  deadline=$((SECONDS + ${RECIPES_SECONDS:-540}))
  if [ ! -f "${CMWJAX_DATA_DIR:-}/cifar10.npz" ]; then
    echo "CMWJAX_DATA_DIR=${CMWJAX_DATA_DIR:-} holds no cifar10.npz; see configs/cifar.py"
    exit 1
  fi
  # Under label noise the paper's CMW-Net has MixUp and a teacher: cmw_net_mixup.
  recipe asym-0.8 erm noise=asym,rate=0.8
  recipe asym-0.8 cmw_net_mixup noise=asym,rate=0.8
  recipe asym-0.8 cmw_net_sl noise=asym,rate=0.8
  recipe human-worse erm labels=human_worse
  recipe human-worse cmw_net_sl labels=human_worse
  recipe human-worse cmw_net_mixup labels=human_worse
fi
