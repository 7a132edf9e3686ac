"""Brings a cluster up and leaves it running: `make cluster`.

python -m tests.cluster.up NAME PROFILE KUBE
"""

import sys

from . import cluster, images


def main(name: str, profile: str, kube: str) -> None:
    up = cluster.start(name, profile, kube)
    up.agent.start()
    print(f"KUBECONFIG={up.kubeconfig}")
    print(f"kubectl: {up.kubernetes / 'kubectl'}")
    print(f"tenant image: {images.TENANT} (imagePullPolicy: Never)")


if __name__ == "__main__":
    main(*sys.argv[1:])
