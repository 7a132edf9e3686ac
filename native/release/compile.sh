#!/bin/sh
# Compiles TARGET of native/ with zig for a machine and a glibc that need not be this one's, in build/release-MACHINE-GLIBC.
#
#   compile.sh PYTHON MACHINE GLIBC TARGET      PYTHON has the wheels ziglang, cmake, ninja and NVIDIA's headers
set -eu

python=$1 machine=$2 glibc=$3 target=$4
cd "$(dirname "$0")/../.."
mkdir -p build
zig=$PWD/build/zig-$machine-$glibc
folder=build/release-$machine-$glibc

native/release/zig-tool.sh "$python" "$zig" "$machine-linux-gnu.$glibc"
cmake -S native -B "$folder" -G Ninja -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR="$machine" \
    -DCMAKE_C_COMPILER="$zig/cc" -DCMAKE_AR="$zig/ar" -DCMAKE_RANLIB="$zig/ranlib" \
    -DCMAKE_SHARED_LINKER_FLAGS=-s -DBUILD_TESTING=OFF -DPython3_EXECUTABLE="$python" >"$folder.log"
ninja -C "$folder" --quiet "$target"
