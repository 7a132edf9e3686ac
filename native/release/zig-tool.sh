#!/bin/sh
# Writes cc, ar and ranlib into DIRECTORY, which run zig's from the ziglang wheel of PYTHON. With a TARGET such as
# x86_64-linux-gnu.2.17 they compile for that machine and that glibc, whatever this one is.
#
#   zig-tool.sh PYTHON DIRECTORY [TARGET]
set -eu

python=$1 directory=$2 target=${3:+-target $3}
mkdir -p "$directory"

write() {
    printf '#!/bin/sh\nexec "%s" -m ziglang %s "$@"\n' "$python" "$2" >"$directory/$1"
    chmod +x "$directory/$1"
}
write ar ar
write ranlib ranlib
write cc "cc $target"
