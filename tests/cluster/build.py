"""Builds what a cluster is made of, as far as it is not in the cache; minutes the first time.

python -m tests.cluster.build KUBE
"""

import sys

from ..deploy import image
from . import binaries, images

if __name__ == "__main__":
    binaries.kubernetes(sys.argv[1])
    binaries.containers()
    images.pause()
    images.tenant()
    image.archive()
