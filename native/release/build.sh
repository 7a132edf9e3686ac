#!/bin/sh
# The shim as it is shipped: dist/libgpuslice-{x86_64,aarch64}.so, stripped, for glibc 2.17 and everything newer.
# x86_64 is built and installed whole (build/release), so that tests can run it in old systems.
#
#   build.sh PYTHON      PYTHON has the wheels ziglang, cmake, ninja and NVIDIA's headers
set -eu

python=$1
root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"
mkdir -p build dist

for machine in x86_64 aarch64; do
    zig=$root/build/zig-$machine
    build=$root/build/release-$machine
    native/release/zig-tool.sh "$python" "$zig" "$machine-linux-gnu.2.17"
    cmake -S native -B "$build" -G Ninja \
        -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=$machine \
        -DCMAKE_C_COMPILER="$zig/cc" -DCMAKE_AR="$zig/ar" -DCMAKE_RANLIB="$zig/ranlib" \
        -DCMAKE_SHARED_LINKER_FLAGS=-s -DBUILD_TESTING=OFF -DPython3_EXECUTABLE="$python" >"$build.log"
    case $machine in
    x86_64)
        ninja -C "$build" --quiet
        cmake --install "$build" --prefix build/release >/dev/null
        ;;
    aarch64) ninja -C "$build" --quiet gpuslice ;;
    esac
    cp "$build/shim/libgpuslice.so" "dist/libgpuslice-$machine.so"
done
