#!/bin/bash
# Runs tests/gpu and the benches of a GPU from a bundle (make gpu-bundle) on a machine that needs nothing but the
# python3 it was made for and, unless it is simulated, NVIDIA's driver. What matters most runs first; what fails does not stop the rest.
#
#   run.sh BUNDLE [OUT]     OUT: log.txt, gpu-NAME.json, gpu_costs.json, gpu_assumptions.json. Default: ./gpu-results
#
# PYTHON names the python (python3: the one that has PyTorch), BUDGET the seconds for all of it (470).
set -uo pipefail

bundle=$(cd "${1:?usage: run.sh BUNDLE [OUT]}" && pwd)
out=${2:-gpu-results}
python=${PYTHON:-python3}
budget=${BUDGET:-470}
mkdir -p "$out"
out=$(cd "$out" && pwd)
scratch=$(mktemp -d)
exec > >(tee "$out/log.txt") 2>&1
tee=$!
trap 'rm -rf "$scratch"; exec >&- 2>&-; wait $tee' EXIT

failed=()
# step NAME SECONDS COMMAND…
step() {
    local name=$1 limit=$2 left=$((budget - SECONDS)) status
    shift 2
    if [ $left -lt 10 ]; then
        echo "=== $name: left out, the time is up"
        failed+=("$name")
        return
    fi
    [ "$limit" -le $left ] || limit=$left
    echo "=== $name (at ${SECONDS} s, at most $limit s)"
    timeout --kill-after=5 "$limit" "$@"
    status=$?
    [ $status -eq 0 ] || failed+=("$name")
    [ $status -ne 124 ] || echo "=== $name took longer than $limit s"
}
tests() {
    (cd "$bundle" && "$python" -m pytest -p no:cacheprovider -q -rs --tb=short --timeout=150 "$@")
}
keep() { # NAME COMMAND…: its output becomes a result
    "${@:2}" >"$scratch/$1" && mv "$scratch/$1" "$out/$1"
}
export -f tests keep
export bundle python scratch out

install_into() { # FOLDER WHEEL…
    "$python" "$(echo "$bundle"/wheels/pip-*.whl)/pip" install --quiet --no-index --no-deps --no-compile \
        --disable-pip-version-check --root-user-action ignore --target "$@"
}
install_into "$scratch/site" "$bundle"/wheels/*.whl || exit 1
install_into "$scratch/clients" "$bundle"/clients/*.whl || exit 1
cp -r "$bundle/programs" "$scratch/programs" # a read-only place or a copy may have lost their modes
chmod -R u+rwx "$scratch/programs"
export PYTHONPATH=$scratch/site${PYTHONPATH:+:$PYTHONPATH} PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
export CUDA_DEVICE_ORDER=PCI_BUS_ID # as NVML counts
export GPUSLICE_TEST_PROGRAMS=$scratch/programs GPUSLICE_TEST_CLIENTS=$scratch/clients GPUSLICE_RESULTS=$out

echo "python: $("$python" -V), in $("$python" -c 'import sys; print(sys.prefix)'); $(uname -a)"
command -v nvidia-smi >/dev/null && nvidia-smi
bash_step() { step "$1" "$2" bash -c "${*:3}"; }
bash_step symbols 30 tests tests/gpu/test_symbols.py
bash_step memory 110 tests tests/gpu/test_memory.py
bash_step gpu-time 170 tests tests/gpu/test_gpu_time.py
bash_step torch 100 tests tests/gpu/test_torch.py
bash_step cudart 90 tests tests/gpu/test_cudart.py
bash_step assumptions 60 keep gpu_assumptions.json '"$python"' '"$bundle/bench/gpu_assumptions.py"'
bash_step costs 80 keep gpu_costs.json '"$python"' '"$bundle/bench/gpu_costs.py"' --programs '"$GPUSLICE_TEST_PROGRAMS"'
bash_step entry 100 tests tests/gpu/test_entry.py
bash_step diag 60 tests tests/gpu/test_diag.py
bash_step demo 60 '"$python"' -m gpuslice_agent.cli demo --real

echo "=== done after ${SECONDS} s; failed: ${failed[*]:-nothing}"
[ ${#failed[@]} -eq 0 ]
