#!/bin/bash
# Process 1 of a node: what the kubelet and containerd hard-code of their directories becomes the node's own, then it
# reaps whatever loses its parent (bash does that by itself). With it end all processes, mounts and interfaces of the
# node, because nothing else holds its namespaces.
#
#   process_one.sh FOLDER KEPT...    FOLDER holds the node's /var; the folders KEPT are seen below them all the same
set -euo pipefail
folder=$1
shift
mkdir -p "$folder"/{lib,log,kept}

for kept in "$@"; do
    mkdir -p "$folder/kept$kept"
    mount --rbind "$kept" "$folder/kept$kept"
done
mount -t tmpfs -o mode=0755 tmpfs /run
mount --bind "$folder/lib" /var/lib
mount --bind "$folder/log" /var/log
for kept in "$@"; do
    mkdir -p "$kept"
    mount --rbind "$folder/kept$kept" "$kept"
done

# As systemd leaves them: what one container mounts for others reaches them through here.
mount --make-rshared /

ip link set lo up
mkdir -p /run/lock /run/netns
touch /run/ready
exec 0</dev/null
while :; do
    sleep 1000000 &
    wait
done
