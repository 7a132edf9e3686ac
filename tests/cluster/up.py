"""Brings a cluster up and leaves it running: `make cluster`.

python -m tests.cluster.up NAME PROFILE KUBE
"""

import sys

from ..deploy import image
from . import binaries, cluster, daemonset, images, node, policies


def main(name: str, profile: str, kube: str) -> None:
    if kube not in binaries.KUBERNETES or profile not in cluster.SPLIT:
        known = f"KUBE={'|'.join(binaries.KUBERNETES)} and PROFILE={'|'.join(cluster.SPLIT)}"
        raise SystemExit(f"up: there are {known}, not KUBE={kube} and PROFILE={profile}")
    if (node.CLUSTERS / name).exists():
        raise SystemExit(f"up: {name} is up already: `make cluster-down NAME={name}` ends it")
    image.archive()
    up = cluster.start(name, profile, kube)
    try:
        daemonset.install(up)
        policies.install(up, kube)
    except BaseException:
        node.remove(name)
        raise
    print(f"KUBECONFIG={up.kubeconfig}")
    print(f"kubectl: {up.kubernetes / 'kubectl'}")
    print(f"tenant image: {images.TENANT} (imagePullPolicy: Never)")


if __name__ == "__main__":
    main(*sys.argv[1:])
