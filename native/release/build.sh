#!/bin/sh
# The shim as it is shipped: dist/libgpuslice-{x86_64,aarch64}.so, stripped, for glibc 2.17 and everything newer. Beside
# it, for the tests that run it in old systems, the whole of native/ for glibc 2.31 (Debian 11), in build/release.
#
#   build.sh PYTHON      PYTHON has the wheels ziglang, cmake, ninja and NVIDIA's headers
set -eu

python=$1
cd "$(dirname "$0")/../.."
mkdir -p build dist

# build MACHINE GLIBC TARGET: in build/release-MACHINE-GLIBC
build() {
    zig=$PWD/build/zig-$1-$2
    folder=build/release-$1-$2
    native/release/zig-tool.sh "$python" "$zig" "$1-linux-gnu.$2"
    cmake -S native -B "$folder" -G Ninja -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR="$1" \
        -DCMAKE_C_COMPILER="$zig/cc" -DCMAKE_AR="$zig/ar" -DCMAKE_RANLIB="$zig/ranlib" \
        -DCMAKE_SHARED_LINKER_FLAGS=-s -DBUILD_TESTING=OFF -DPython3_EXECUTABLE="$python" >"$folder.log"
    ninja -C "$folder" --quiet "$3"
}

for machine in x86_64 aarch64; do
    build $machine 2.17 gpuslice
    cp build/release-$machine-2.17/shim/libgpuslice.so dist/libgpuslice-$machine.so
done
build x86_64 2.31 all
cmake --install build/release-x86_64-2.31 --prefix build/release >/dev/null
cp dist/libgpuslice-x86_64.so build/release/gpuslice_agent/native/libgpuslice.so
