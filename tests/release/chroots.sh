#!/bin/sh
# Makes small Debian systems to run the release build in, and prints where each lies. They are kept outside the
# checkout and made once: GPUSLICE_CHROOTS, else /var/tmp/gpuslice-chroots. Needs root and debootstrap, which knows
# Debian's mirrors; GPUSLICE_DEBIAN_MIRROR names another.
#
#   chroots.sh bullseye bookworm trixie
set -eu

cache=${GPUSLICE_CHROOTS:-/var/tmp/gpuslice-chroots}
mkdir -p "$cache"

for suite in "$@"; do
    root=$cache/$suite
    if [ ! -e "$root/.complete" ]; then
        rm -rf "$root"
        # minbase has libc, a shell and no Python: what the shim meets in the barest container.
        debootstrap --variant=minbase "$suite" "$root" ${GPUSLICE_DEBIAN_MIRROR:+"$GPUSLICE_DEBIAN_MIRROR"} >"$cache/$suite.log" 2>&1 || {
            tail -n 5 "$cache/$suite.log" >&2
            echo "chroots.sh: debootstrap of $suite failed; the whole log is $cache/$suite.log" >&2
            exit 1
        }
        touch "$root/.complete"
    fi
    echo "$root"
done
