"""What can go wrong, one class a layer; each text is one sentence that says what to do."""


class GpusliceError(Exception):
    """The root: the command line prints it, the control API sends it as the status message."""


class ConfigError(GpusliceError):
    """A setting is wrong; names the file, variable or flag, the key and what is right."""


class InstallationError(GpusliceError):
    """The native parts are not where they should be."""


class RunDirectoryError(GpusliceError):
    """The run directory cannot be used, or another agent owns it."""


class NvmlError(GpusliceError):
    """NVML is not there, refused a call or did not answer in time."""


class NvmlHungError(NvmlError):
    """NVML did not answer in time: the GPU, or the driver, is sick."""


class NvmlStuckError(NvmlHungError):
    """An earlier call still hangs and its process cannot be killed: nobody can be asked."""


class NvmlLostError(NvmlError):
    """NVML says that the GPU has fallen off the bus."""


class AllocationError(GpusliceError):
    """Nothing fits the request now."""


class RequestError(AllocationError):
    """The request can never be met as it was written."""


class LedgerError(GpusliceError):
    """The ledger cannot be read or written."""


class DamagedLedgerError(LedgerError):
    """What the ledger says cannot be trusted."""


class EnforcementError(GpusliceError):
    """The files of a share or the arbiter failed."""


class CorruptShareError(EnforcementError):
    """A tenant damaged the files of its share, or they are of another version."""


class PartitionError(AllocationError):
    """A MIG partition cannot be made now, or a GPU not be taken into or out of MIG mode."""


class ShareError(GpusliceError):
    """A share cannot be changed as asked."""


class UnknownShareError(ShareError):
    """No share has this id."""


class CatalogueError(GpusliceError):
    """The catalogue of faults cannot be read."""


class HealthError(GpusliceError):
    """What is remembered of the node's health cannot be read or written."""


class PublishError(GpusliceError):
    """What the agent publishes cannot be served."""


class ControlError(GpusliceError):
    """The agent could not be asked."""


class AgentAbsentError(ControlError):
    """No agent runs here; a private one may be started."""


class AgentRefusedError(ControlError):
    """An agent owns this run directory but does not let us in; never start a second one."""
