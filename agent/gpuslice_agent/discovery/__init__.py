"""Looks at the node: its GPUs, what they do, and who runs on them."""

from gpuslice_agent.discovery.gpus import Gpus, Sight
from gpuslice_agent.discovery.hotplug import hotplugs
from gpuslice_agent.discovery.processes import process_name, process_place

__all__ = ["Gpus", "Sight", "hotplugs", "process_name", "process_place"]
