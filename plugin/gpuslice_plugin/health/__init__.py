"""Tells Kubernetes how well the node's GPUs are: by a condition of the node, and by Events.

`condition` and `news` decide what is to be said and do no I/O; `node_condition` and `reporter` say
it, at a pace that no storm of faults changes; `lost_gpus` ends pods where that is wanted.
"""
