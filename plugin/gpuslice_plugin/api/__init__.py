"""The API server: objects as dicts, so that fields newer than this agent survive."""

from gpuslice_plugin.api.informer import Informer
from gpuslice_plugin.api.objects import Object, part, parts
from gpuslice_plugin.api.server import ApiServer, PatchKind

__all__ = ["ApiServer", "Informer", "Object", "PatchKind", "part", "parts"]
