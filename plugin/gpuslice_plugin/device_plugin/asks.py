"""What a container asks for, read from its limits: the rows of the table in docs/device-plugin.md.

The scheduler knows sums only. Where an admission policy has written a container's words out as
sums, its own words are kept in an annotation; they count only as long as they and the sums agree.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from gpuslice_agent.errors import RequestError

ANNOTATION = "asked.gpuslice.io/"  # then the container's name: "gpu=2,gpumem=3000"
WORDS = ("gpu", "gpucores", "gpumem", "gpumem-percentage")
ALL = 100


@dataclass(frozen=True, slots=True)
class Words:
    """The numbers that a container wrote; None where it wrote none. Nothing counts as none."""

    gpu: int | None = None
    cores: int | None = None
    memory_mib: int | None = None
    memory_percent: int | None = None

    @property
    def has_size(self) -> bool:
        sizes = (self.cores, self.memory_mib, self.memory_percent)
        return any(size is not None for size in sizes)

    def __str__(self) -> str:
        values = (self.gpu, self.cores, self.memory_mib, self.memory_percent)
        pairs = zip(WORDS, values, strict=True)
        return ",".join(f"{word}={value}" for word, value in pairs if value is not None)


@dataclass(frozen=True, slots=True)
class Ask:
    """`count` shares, each on a GPU of its own and each of this size."""

    count: int
    cores: int = 0
    memory_mib: int | None = None
    memory_percent: int | None = None  # of the GPU's memory
    whole: bool = False

    def __str__(self) -> str:
        if self.whole:
            return "a whole GPU" if self.count == 1 else f"{self.count} whole GPUs"
        memory = f"{self.memory_percent} % of its memory"
        if self.memory_mib is not None:
            memory = f"{self.memory_mib} MiB"
        each = f"{self.cores} % of a GPU's time and {memory}"
        return each if self.count == 1 else f"{each} on each of {self.count} GPUs"


def words(limits: Mapping[str, int], prefix: str) -> Words:
    gpu, cores, mib, percent = (limits.get(f"{prefix}/{word}", 0) or None for word in WORDS)
    return Words(gpu, cores, mib, percent)


def parse(text: str) -> Words:
    """What the annotation says."""
    found: dict[str, int] = {}
    for part in text.split(","):
        word, _, value = part.strip().partition("=")
        if word not in WORDS or not value.isascii() or not value.isdecimal():
            raise RequestError(
                f"The annotation {ANNOTATION}… says {text!r}: write it as gpu=2,gpumem=3000, "
                "with the resources that the container would ask for by itself."
            )
        found[word] = int(value)
    return words({f"/{word}": value for word, value in found.items()}, "")


def ask(written: Words, annotation: str | None = None) -> Ask | None:
    """None: nothing. RequestError: what cannot be, in a sentence."""
    if annotation is None:
        return _read(written)
    own = parse(annotation)
    if written not in (own, sums(own)):
        raise RequestError(
            f"The container asks for {written}, but its annotation {ANNOTATION}… says {own}, which "
            f"is written out as {sums(own)}: write one or the other."
        )
    return _read(own)


def sums(own: Words) -> Words:
    """A container's words as the scheduler has to count them."""
    wanted = _read(own)
    if wanted is None:
        return own
    return Words(
        wanted.count,
        wanted.count * wanted.cores or None,
        own.memory_mib and own.memory_mib * wanted.count,
        own.memory_percent and own.memory_percent * wanted.count,
    )


def _read(own: Words) -> Ask | None:
    if own.memory_mib is not None and own.memory_percent is not None:
        raise RequestError("gpumem and gpumem-percentage are two ways to say one thing: write one.")
    if own.gpu is None and not own.has_size:
        return None
    if own.cores is not None and own.cores > ALL:
        return _hundreds(own, own.cores)
    if own.memory_percent is not None and own.memory_percent > ALL:
        raise RequestError(
            f"gpumem-percentage: {own.memory_percent} cannot be: it is percent of one GPU's memory."
        )
    count = own.gpu or 1
    if not own.has_size:
        return Ask(count, ALL, whole=True)
    memory = own.memory_mib is None and own.memory_percent is None
    percent = own.cores if memory else own.memory_percent
    if own.cores == percent == ALL:
        return Ask(count, ALL, whole=True)
    return Ask(count, own.cores or 0, own.memory_mib, percent)


def _hundreds(own: Words, cores: int) -> Ask:
    """More than one GPU's time: whole GPUs, or nothing that can be."""
    count, rest = divmod(cores, ALL)
    if own.memory_mib is not None or own.memory_percent is not None:
        raise RequestError(
            f"gpucores: {cores} with an amount of memory cannot be: for shares on several GPUs "
            "write gpu: N and what each of them gets, with at most 100 gpucores."
        )
    if rest or own.gpu not in (None, count):
        raise RequestError(
            f"gpucores: {cores} cannot be: up to 100 it is a share of one GPU, above that whole "
            "GPUs in hundreds."
        )
    return Ask(count, ALL, whole=True)
