"""One GPU, nobody else on it; an agent that lives as long as the tests; what they measured.

The programs come from GPUSLICE_TEST_PROGRAMS (tests/gpu/build.py fills such a folder), the results
go to GPUSLICE_RESULTS, or bench/results.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .card import Card, NoGpuError, first_card
from .record import Record
from .tenants import GPUSLICE, started

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def card() -> Card:
    try:
        return first_card()
    except NoGpuError as error:
        pytest.exit(str(error), returncode=1)


@pytest.fixture(scope="session")
def nvidia_driver(card: Card) -> None:
    """For what runs on libcudart, which serves no other driver than NVIDIA's."""
    if card.simulated:
        pytest.skip("no NVIDIA driver: libcudart refuses the simulated one")


@pytest.fixture(scope="session")
def results(card: Card) -> Record:
    named = os.environ.get("GPUSLICE_RESULTS")
    return Record(Path(named) if named else REPOSITORY / "bench" / "results", card.machine)


@pytest.fixture
def record(results: Record) -> Iterator[Record]:
    results.broken()
    yield results
    broken = results.broken()
    assert not broken, "; ".join(broken)


@pytest.fixture(scope="session")
def programs() -> Path:
    named = os.environ.get("GPUSLICE_TEST_PROGRAMS")
    assert named, "GPUSLICE_TEST_PROGRAMS is not set: `make gpu-test` builds them and says where"
    return Path(named)


@pytest.fixture(scope="session", autouse=True)
def agent(card: Card) -> Iterator[None]:
    """A share that lasts, so that the agent that its `run` started does, too."""
    with (
        pytest.MonkeyPatch.context() as environment,
        tempfile.TemporaryDirectory(
            ignore_cleanup_errors=True  # the agent ends after us
        ) as directory,
    ):
        environment.setenv("CUDA_VISIBLE_DEVICES", card.uuid)
        if not card.simulated:  # a simulated node brings its own
            environment.setenv("GPUSLICE_RUN_DIR", directory)
        with started(*GPUSLICE, "run", "--gpu", "0", "--mem", "16MiB", "--", "cat") as keeper:
            keeper.hears("here")
            assert keeper.says_line() == "here"
            yield
            keeper.ends()
