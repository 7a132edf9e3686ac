"""What figures mean: pure, from measures and NVML's words to results."""

from collections.abc import Collection

from gpuslice_agent.diag.measures import Burnt, Copied, Cuda, Matched
from gpuslice_agent.diag.results import Outcome, Result, failed, passed, skipped
from gpuslice_agent.health.judge import recovery_action
from gpuslice_agent.model import Gpu, HealthState, Snapshot
from gpuslice_agent.nvml.vitals import Vitals

# Bytes a second of one PCIe lane in one direction, by generation, with the line code taken off.
LANE = {1: 0.25e9, 2: 0.5e9, 3: 0.985e9, 4: 1.969e9, 5: 3.938e9, 6: 7.563e9}
# Of what a link could carry, large copies reach about four fifths: the rest is packet headers.
LINK_PART = 0.7
# A copy on the device reaches three quarters of the data sheet's rate where all is well.
MEMORY_PART = 0.55
# Power and heat may take some of the boost clock away, and loops cost a little.
BURN_PART = 0.5
# 32-bit floating-point units of a multiprocessor, by compute capability (CUDA's programming guide).
UNITS = {(7, 0): 64, (7, 5): 64, (8, 0): 64, (8, 6): 128, (8, 7): 128, (8, 9): 128, (9, 0): 128}
UNITS_SINCE_BLACKWELL = 128


def nvml(snapshot: Snapshot) -> Result:
    if snapshot.problem:
        return failed("nvml", snapshot.problem)
    count = len(snapshot.gpus)
    gpus = "1 GPU" if count == 1 else f"{count} GPUs"
    return passed("nvml", f"Driver {snapshot.driver_version}, {gpus}.")


def cuda(seen: Cuda, cuda_version: str, uuids: Collection[str]) -> Result:
    """`cuda_version`: NVML's word, as 13.5; `uuids`: of the GPUs that CUDA should have."""
    version = f"{seen.version // 1000}.{seen.version % 1000 // 10}"
    if version != cuda_version:
        return failed(
            "cuda",
            f"libcuda.so.1 is of CUDA {version}, NVML of {cuda_version}: libraries of two drivers"
            " are installed.",
        )
    if missing := sorted(set(uuids) - set(seen.uuids)):
        return failed("cuda", f"NVML lists what CUDA has not: {', '.join(missing)}.")
    return passed("cuda", f"CUDA {version}.")


def health(gpu: Gpu) -> Result:
    if gpu.health.state is HealthState.UNHEALTHY:
        return failed("health", f"The agent has it as unhealthy: {gpu.health.reason}")
    return passed("health")


def errors(vitals: Vitals) -> Result:
    """Memory errors that the driver has counted, and what it wants done."""
    asked = vitals.recovery_action or 0
    told = [
        (bool(asked), f"the driver asks for {recovery_action(asked)}"),
        (vitals.remap_failed, "a row could not be remapped"),
        (vitals.remap_pending, "a row waits to be remapped at the next reset"),
        (vitals.sram_threshold_exceeded, "errors of the SRAM are beyond NVIDIA's threshold"),
        (bool(vitals.ecc_uncorrected), f"{vitals.ecc_uncorrected} errors were not corrected"),
    ]
    wrong = [sentence for yes, sentence in told if yes]
    sentence = "; ".join(wrong)
    return failed("errors", f"{sentence[:1].upper()}{sentence[1:]}.") if wrong else passed("errors")


def link(vitals: Vitals) -> Result:
    width, most = vitals.pcie_width, vitals.pcie_width_max
    if not width or not most:
        return skipped(["pcie"], "The driver does not tell the width of the link.")[0]
    if width < most:
        return failed("pcie", f"x{width}, and it could be x{most}: seat the card again.")
    return passed("pcie", f"x{width}.")


def counted(before: Vitals, after: Vitals) -> Result:
    """Errors that the driver has counted while the GPU was tested."""
    told = [
        (before.ecc_uncorrected, after.ecc_uncorrected, "errors were not corrected"),
        (before.ecc_corrected, after.ecc_corrected, "errors were corrected"),
        (before.remapped_rows, after.remapped_rows, "rows were remapped"),
    ]
    wrong = [f"{new - (old or 0)} {what}" for old, new, what in told if new and new > (old or 0)]
    sentence = f"While it was tested {' and '.join(wrong)}."
    return failed("counted", sentence) if wrong else passed("counted")


def host_copy(test: str, measured: Copied, vitals: Vitals) -> Result:
    """The width as it is now, the generation as it could be: an idle link is slower."""
    width, generation = vitals.pcie_width, vitals.pcie_gen_max
    if not width or generation not in LANE:
        return skipped([test], "The driver does not tell what link this is.")[0]
    least = LANE[generation] * width * LINK_PART
    return _rate(test, measured.rate, least, f"of PCIe {generation} x{width}")


def device_copy(measured: Copied) -> Result:
    # Two transfers a clock, in all generations of HBM and GDDR as the driver counts their clock.
    whole = measured.memory_clock_khz * 1e3 * 2 * measured.memory_bus_bits / 8
    if not whole:
        return skipped(["d2d"], "The driver does not tell what memory this is.")[0]
    rate = 2 * measured.rate  # a read and a write
    return _rate("d2d", rate, whole * MEMORY_PART, "of this memory")


def memory(found: Matched) -> Result:
    looked = f"{found.size / 2**20:.0f} MiB, {_times(found.passes)}"
    if not found.wrong:
        return passed("memory", f"{looked}.")
    return failed(
        "memory",
        f"{found.wrong} words were not what had been written ({looked}): the first at byte"
        f" {found.first * 4:#x}, in bits {found.bits:#010x}.",
    )


def burn(done: Burnt) -> Result:
    if done.wrong:
        return failed(
            "burn",
            f"{done.wrong} results are wrong, of {done.launches} launches: it miscalculates.",
        )
    units = UNITS.get(done.compute_capability, UNITS_SINCE_BLACKWELL)
    # An operation of a unit a clock: a multiply-add counts once.
    least = done.multiprocessors * units * done.clock_khz * 1e3 * BURN_PART
    outcome = Outcome.PASS if done.rate >= least else Outcome.FAIL
    figures = f"{done.rate / 1e12:.1f} tera-operations a second"
    reason = f"{figures}; at least {least / 1e12:.1f} were expected."
    return Result("burn", outcome, reason, done.rate, least, "operations/s")


def _rate(test: str, rate: float, least: float, of_what: str) -> Result:
    outcome = Outcome.PASS if rate >= least else Outcome.FAIL
    reason = f"{rate / 1e9:.1f} GB/s; at least {least / 1e9:.1f} GB/s were expected {of_what}."
    return Result(test, outcome, reason, rate, least, "bytes/s")


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
