"""Makes shares hold: their files, and the arbiter of each GPU that paces them."""

from gpuslice_agent.enforcement.enforcement import Enforcement, corrupt
from gpuslice_agent.enforcement.overhead import ContextOverhead
from gpuslice_agent.enforcement.partitions import Partitions
from gpuslice_agent.enforcement.strangers import Strangers
from gpuslice_agent.enforcement.wall import Wall

__all__ = ["ContextOverhead", "Enforcement", "Partitions", "Strangers", "Wall", "corrupt"]
