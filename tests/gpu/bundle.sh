#!/bin/sh
# dist/gpu-bundle: everything that tests/gpu needs on a machine that has a GPU, a python3 and no way out. Programs and
# native parts are built for glibc 2.17 and newer.
#
#   bundle.sh PYTHON VERSION     PYTHON has the build requirements, ziglang, cmake and ninja; VERSION is the other's (3.12)
set -eu

python=$1 version=$2
root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"
bundle=dist/gpu-bundle
zig=$root/build/zig-x86_64
platforms=$(for glibc in 28 27 24 17 12; do printf -- '--platform manylinux_2_%s_x86_64 ' $glibc; done)
fetch="$python -m pip --disable-pip-version-check --quiet download --only-binary=:all: --implementation cp
    --python-version $version $platforms --platform manylinux2014_x86_64 --platform manylinux2010_x86_64"

rm -rf $bundle
mkdir -p $bundle/wheels $bundle/clients $bundle/native build

native/release/zig-tool.sh "$python" "$zig" x86_64-linux-gnu.2.17
CC=$zig/cc CMAKE_ARGS="-DCMAKE_AR=$zig/ar -DCMAKE_RANLIB=$zig/ranlib" \
    "$python" -m pip --quiet wheel --no-build-isolation --no-deps -C build-dir=build/gpu-bundle -w $bundle/wheels .

# What the wheel needs, read from its pyproject.toml; pip travels, too, for a python that has none.
"$python" -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' \
    >build/gpu-bundle.txt
printf 'pytest>=9\npytest-timeout\npyelftools\npip\n' >>build/gpu-bundle.txt
$fetch -d $bundle/wheels -r build/gpu-bundle.txt
# Apart from the rest: other libraries on that machine bring a version of their own.
$fetch -d $bundle/clients --no-deps cuda-bindings==13.5.0 cuda-pathfinder

cudart12=build/cudart12
"$python" -m pip --quiet install --upgrade --no-deps --target $cudart12 nvidia-cuda-runtime-cu12==12.9.79
native_parts=build/gpu-bundle-native
rm -rf $native_parts
"$python" -m zipfile -e $bundle/wheels/gpuslice-*.whl $native_parts
CC=$zig/cc GPUSLICE_NATIVE=$native_parts/gpuslice_agent/native PYTHONPATH=$native_parts \
    "$python" tests/gpu/build.py $bundle/programs --cudart12 $cudart12

# The tests read these where they lie in the repository.
for path in tests/gpu tests/sim/scripts tests/unit/test_hooks_complete.py native/shim/hooks.def native/shim/forwarded.tsv \
    native/symbols/cuda.tsv bench/pairs.py bench/gpu_costs.py bench/gpu_assumptions.py bench/programs pyproject.toml; do
    mkdir -p "$bundle/$(dirname "$path")"
    cp -r "$path" "$bundle/$(dirname "$path")"
done
find $bundle -name __pycache__ -prune -exec rm -r {} +
du -sh $bundle
