#!/bin/sh
# Builds the Dockerfile with neither a registry nor a container daemon, and writes ARCHIVE, which `ctr images import`
# and `docker load` take. Needs root, buildah and debootstrap; the layers of earlier builds are kept outside the
# checkout, in GPUSLICE_IMAGES, else /var/tmp/gpuslice-images.
#
#   image.sh NAME ARCHIVE
set -eu

name=$1 archive=$2
checkout=$(cd "$(dirname "$0")/../.." && pwd)
cache=${GPUSLICE_IMAGES:-/var/tmp/gpuslice-images}
certificates=/etc/ssl/certs/ca-certificates.crt
base=docker.io/library/debian:bookworm-slim
mkdir -p "$cache"

# Containers cannot be nested everywhere; chroots and plain copies can.
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs
images="buildah --root $cache/storage --runroot $cache/run"

# The same Debian as the image of that name, made in the same way: minbase, and what Debian's slim images leave out.
make_base() {
    system=$("$checkout/tests/release/chroots.sh" bookworm)
    container=$($images from scratch)
    $images add --quiet "$container" "$system" / >/dev/null
    $images run "$container" -- sh -c 'rm -rf /var/cache/apt/* /var/lib/apt/lists/* /var/log/* /usr/share/doc/* \
        /usr/share/man/* /usr/share/info/* /usr/share/locale/* /usr/share/groff/* /usr/share/lintian/* /.complete'
    $images commit --quiet --rm --squash "$container" $base >/dev/null
}

(
    flock 9
    $images rm --all >/dev/null # what a build that was killed has left
    $images inspect --type image $base >/dev/null 2>&1 || make_base
    # What reaches a package index from this machine reaches it from the build. (dpkg replaces the certificates of the
    # build's own Debian, and nobody replaces what is mounted: ours lie elsewhere.)
    given=
    if [ -e /etc/pip.conf ]; then
        sed "s#$certificates#/run/certificates.crt#" /etc/pip.conf >"$cache/pip.conf"
        given="--volume $cache/pip.conf:/etc/pip.conf:ro --volume $certificates:/run/certificates.crt:ro"
    fi
    # The stage that builds has a name too, so that its layers are kept for the next time and those of earlier times go.
    build="$images build --layers --pull-never --quiet $given"
    $build --target build --tag "$name-build" "$checkout" >/dev/null
    $build --tag "$name" "$checkout" >/dev/null
    $images rmi --prune >/dev/null
    rm -f "$archive"
    $images push --quiet "$name" "docker-archive:$archive:$name"
) 9>"$cache/lock"
