#!/bin/sh
# The shim as it is shipped: dist/libgpuslice-{x86_64,aarch64}.so, stripped, for glibc 2.17 and everything newer. Beside
# it, for the tests that run it in old systems, the whole of native/ for glibc 2.31 (Debian 11), in build/release.
#
#   build.sh PYTHON      PYTHON has the wheels ziglang, cmake, ninja and NVIDIA's headers
set -eu

python=$1
cd "$(dirname "$0")/../.."
mkdir -p dist

for machine in x86_64 aarch64; do
    native/release/compile.sh "$python" $machine 2.17 gpuslice
    cp build/release-$machine-2.17/shim/libgpuslice.so dist/libgpuslice-$machine.so
done
native/release/compile.sh "$python" x86_64 2.31 all
cmake --install build/release-x86_64-2.31 --prefix build/release >/dev/null
cp dist/libgpuslice-x86_64.so build/release/gpuslice_agent/native/libgpuslice.so
