"""Ends a cluster and removes every trace of it: `make cluster-down`.

python -m tests.cluster.down NAME
"""

import sys

from . import node

if __name__ == "__main__":
    node.remove(sys.argv[1])
