"""Tells the cluster what the node has: metrics."""

from gpuslice_agent.publish.metrics import serve_metrics

__all__ = ["serve_metrics"]
