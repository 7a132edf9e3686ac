"""What can go wrong with the kubelet and the API server, one class each; texts are sentences."""

from gpuslice_agent.errors import GpusliceError


class ApiError(GpusliceError):
    """The API server refused a request, or was not reached (status 0)."""

    def __init__(self, text: str, status: int = 0, retry_after: float = 0.0) -> None:
        super().__init__(text)
        self.status = status
        self.retry_after = retry_after  # seconds that the server asks us to wait

    @property
    def is_absent(self) -> bool:
        return self.status == 404

    @property
    def is_conflict(self) -> bool:
        """Somebody else changed the object, or made one of that name, meanwhile."""
        return self.status == 409

    @property
    def is_expired(self) -> bool:
        """The server no longer knows the resource version that was asked from."""
        return self.status == 410

    @property
    def is_transient(self) -> bool:
        """The same request may well succeed a little later."""
        return self.status in (0, 408, 409, 429) or self.status >= 500


class KubeletError(GpusliceError):
    """The kubelet refused a request, was not reached, or cannot be served."""


class OldKubeletError(KubeletError):
    """The kubelet does not know the request; kubelets from 1.34 on do."""


class CheckpointError(KubeletError):
    """The kubelet's record of devices cannot be read or understood."""


class UnknownContainerError(KubeletError):
    """Nothing says yet, or beyond doubt, whose container the kubelet is about to start."""


class ForeignPluginError(GpusliceError):
    """Another device plugin serves our resources on this node."""


class ClaimError(GpusliceError):
    """A claim cannot be prepared as it was written; asking again does not help."""


class NotReadyError(GpusliceError):
    """A claim is still being prepared; asking again does help."""


class CdiError(GpusliceError):
    """What containers need for a GPU cannot be said, or not be written down."""
