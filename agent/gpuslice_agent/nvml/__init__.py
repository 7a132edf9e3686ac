"""NVML in a process of its own, for a call into a sick driver may never return.

The agent talks to it through process.Nvml; only the child imports pynvml. Nothing is imported here:
the child starts sooner without the agent's end.
"""
