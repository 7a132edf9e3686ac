"""What people write on the command line, as values: sizes, percentages, lists of GPUs.

Each function is the type of a click option; click adds the option's name to what it refuses.
"""

import re

import click

# As docker and systemd read them: G is GiB. "GB" could mean either and is refused.
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([KMGT])(?:iB?)?)?", re.IGNORECASE | re.ASCII)
_GPU = re.compile(r"\d+|GPU-[0-9a-zA-Z-]+", re.ASCII)


def size(text: str) -> int:
    """Bytes, at least one."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise click.BadParameter(f"{text!r} is not a size; write 8GiB, 8192MiB or bytes.")
    value = int(float(match[1]) * _UNITS[(match[2] or "").upper()])
    if value == 0:
        raise click.BadParameter(
            "a share without memory holds no CUDA context; write a size such as 8GiB."
        )
    return value


def percent(text: str) -> int:
    """Of one GPU's time."""
    digits = text.strip().removesuffix("%")
    if not re.fullmatch(r"\d{1,3}", digits, re.ASCII) or int(digits) > 100:
        raise click.BadParameter(
            f"{text!r} is not a whole percentage of one GPU's time; write 0 to 100"
            " (several GPUs are named with --gpu, each gives that much)."
        )
    return int(digits)


def gpus(text: str) -> tuple[str, ...]:
    """NVML indices or UUIDs, each at most once."""
    if not text:
        return ()
    names = tuple(part.strip() for part in text.split(","))
    for name in names:
        if not _GPU.fullmatch(name):
            raise click.BadParameter(
                f"{name!r} is neither an index nor a UUID; `gpuslice status` lists both."
            )
    if len(set(names)) < len(names):
        raise click.BadParameter(f"{text!r} names a GPU twice.")
    return names
