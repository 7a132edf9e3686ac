"""Makes shares hold: their files, and the arbiter of each GPU that paces them."""

from gpuslice_agent.enforcement.enforcement import Enforcement, corrupt
from gpuslice_agent.enforcement.overhead import ContextOverhead

__all__ = ["ContextOverhead", "Enforcement", "corrupt"]
