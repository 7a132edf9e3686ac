"""The feature file from which Node Feature Discovery labels the node in our stead."""

import os
from collections.abc import Mapping
from pathlib import Path

from gpuslice_agent.errors import PublishError

FILE = "gpuslice"
SIZE_AT_MOST = 64 * 1024  # more NFD does not read


def feature_file(labels: Mapping[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in sorted(labels.items()))


def write(folder: Path, labels: Mapping[str, str]) -> bool:
    """True where the file has changed. NFD skips names that begin with a dot, so it never reads
    half a file. Raises PublishError.
    """
    text = feature_file(labels)
    target, new = folder / FILE, folder / f".{FILE}"
    try:
        if target.exists() and target.read_text() == text:
            return False
        assert len(text) <= SIZE_AT_MOST  # a hundred labels of 63 characters
        new.write_text(text)
        os.replace(new, target)
    except OSError as error:
        raise PublishError(
            f"The feature file {target} cannot be written: {error.strerror}."
        ) from error
    return True
