"""The DRA driver: what the scheduler may allocate, and how an allocated claim becomes shares.

layout says what is published, slices keeps it published; service hears the kubelet, prepare turns a
claim into shares; health tells the kubelet how its devices are, sweeper ends what was forgotten.
"""

from gpuslice_plugin.dra.names import DRIVER

__all__ = ["DRIVER"]
