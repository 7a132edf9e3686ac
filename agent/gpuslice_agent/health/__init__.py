"""How well the node's parts are, by what the kernel's log, NVML and the inventory say.

`line`, `catalogue`, `nvlink`, `judge`, `merge`, `blame` and `states` decide and do no I/O; `kmsg`,
`journal` and `store` are the edges; `watch` puts them together.
"""
