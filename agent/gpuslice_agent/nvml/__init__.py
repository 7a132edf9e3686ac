"""NVML in a process of its own, for a call into a sick driver may never return.

The agent talks to it through Nvml; only the child imports pynvml.
"""

from gpuslice_agent.nvml.process import Nvml
from gpuslice_agent.nvml.protocol import Description

__all__ = ["Description", "Nvml"]
