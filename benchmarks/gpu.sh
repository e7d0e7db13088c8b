#!/usr/bin/env bash
# Measures on an accelerator, what tells most first:
#
#     CMWJAX_DATA_DIR=FOLDER bash benchmarks/gpu.sh OUT
#
# Every row leaves its JSON in OUT as soon as it has it, and the same command goes on
# where it was stopped: runs continue from their last checkpoint, in OUT.runs, and rows
# that are done are passed over. FOLDER holds cifar10.npz, see configs/cifar.py.
set -euo pipefail
out=${1:?give a folder for the results}
mkdir -p "$out" "$out.runs"
out=$(cd "$out" && pwd)
runs=$out.runs
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python}

# done_already NAME: whether a row has its result; says so.
done_already() { [ -f "$out/$1.json" ] && echo "$1: done"; }

# The cost of a step, by a script of this folder: its name, the model, the batch size, the
# type of the computation.
step_cost() {
  local name=$1_$2_$4
  done_already "$name" && return
  "$python" "benchmarks/$1.py" --models="$2" --batch_size="$3" --dtype="$4" \
    --json="$out/$name.partial"
  mv "$out/$name.partial" "$out/$name.json"
}

# A run of the paper's schedule: name, then what follows --config=configs/.
full_recipe() {
  done_already "$1" && return
  "$python" run.py --config="configs/$2" --workdir="$runs/$1" \
    --config.compare.seeds='(0,)' --config.steps_per_call=100 \
    --config.checkpoint.every_steps=5000
  cp "$runs/$1/summary.json" "$out/$1.json"
}

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv > "$out/device.csv" ||
  echo "no nvidia-smi here" > "$out/device.csv"

step_cost meta_step preact_resnet18 128 bfloat16
step_cost meta_step preact_resnet18 128 float32
step_cost meta_step resnet32 100 float32
# Under label noise the paper's CMW-Net has MixUp and a teacher: cmw_net_mixup.
full_recipe asym-0.8 cifar.py:noise=asym,rate=0.8,dtype=bfloat16,methods=cmw_net_mixup+erm
full_recipe human-worse \
  cifar.py:labels=human_worse,dtype=bfloat16,methods=cmw_net_mixup+erm
full_recipe lt-100 cifar_lt.py:dtype=bfloat16,methods=cmw_net+erm
full_recipe asym-0.8-sl cifar.py:noise=asym,rate=0.8,dtype=bfloat16,methods=cmw_net_sl
full_recipe sym-0.4-sl cifar.py:noise=sym,rate=0.4,dtype=bfloat16,methods=cmw_net_sl
full_recipe human-worse-sl cifar.py:labels=human_worse,dtype=bfloat16,methods=cmw_net_sl
step_cost transfer_cost resnet50 64 bfloat16
