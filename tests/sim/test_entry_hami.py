"""HAMi-core's environment variables limit a program that has no grant."""

import os
from pathlib import Path

import pytest

from gpuslice_agent import native_files, simulation

from .entry_programs import (
    LIMIT,
    OUT_OF_MEMORY,
    answer,
    answer_line,
    assert_holds,
    build_clients,
    run,
)

# Of 8 GiB. It fits once beside the contexts of all four children, in whatever order they come, and
# not twice beside any context.
HALF_FOR_EACH = ("4", str(4 * LIMIT))


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_clients(tmp_path_factory.mktemp("programs"))


def hami(node: simulation.SimNode, tmp_path: Path, **variables: str) -> dict[str, str]:
    return {
        **node.environment(os.environ),
        "LD_PRELOAD": str(native_files.shim()),
        "CUDA_DEVICE_MEMORY_SHARED_CACHE": str(tmp_path / "hami.cache"),
        **variables,
    }


@pytest.mark.parametrize("limit", ["1g", "1024m", "1048576k", "1073741824"])
def test_hami_variables_limit_a_program_without_a_grant(
    programs: Path, node: simulation.SimNode, tmp_path: Path, limit: str
) -> None:
    environment = hami(node, tmp_path, CUDA_DEVICE_MEMORY_LIMIT=limit)
    assert_holds(answer([programs / "direct"], environment))


def test_hami_variables_limit_each_device(
    programs: Path, node: simulation.SimNode, tmp_path: Path
) -> None:
    environment = hami(
        node, tmp_path, CUDA_DEVICE_MEMORY_LIMIT="2g", CUDA_DEVICE_MEMORY_LIMIT_0="1g"
    )
    assert_holds(answer([programs / "direct"], environment))


def test_hami_variables_limit_a_process_and_its_children_together(
    programs: Path, node: simulation.SimNode, tmp_path: Path
) -> None:
    environment = hami(node, tmp_path, CUDA_DEVICE_MEMORY_LIMIT="8g")
    said = answer_line([programs / "fork", *HALF_FOR_EACH], environment).split()
    assert said.count("0") == 1
    assert said.count(str(OUT_OF_MEMORY)) == 3


def test_hami_variables_need_no_cache_to_be_named(
    programs: Path, node: simulation.SimNode, tmp_path: Path
) -> None:
    environment = hami(node, tmp_path, CUDA_DEVICE_MEMORY_LIMIT=str(8 * LIMIT))
    del environment["CUDA_DEVICE_MEMORY_SHARED_CACHE"]
    said = answer_line([programs / "fork", *HALF_FOR_EACH], environment).split()
    assert said.count("0") == 1


def test_other_hami_limits_hold_for_the_next_program(
    programs: Path, node: simulation.SimNode, tmp_path: Path
) -> None:
    first = hami(node, tmp_path, CUDA_DEVICE_MEMORY_LIMIT="2g")
    assert answer([programs / "direct"], first)["total"] == 2 * LIMIT
    assert_holds(answer([programs / "direct"], hami(node, tmp_path, CUDA_DEVICE_MEMORY_LIMIT="1g")))


def test_hami_control_can_be_disabled(
    programs: Path, node: simulation.SimNode, tmp_path: Path
) -> None:
    environment = hami(node, tmp_path, CUDA_DEVICE_MEMORY_LIMIT="1g", CUDA_DISABLE_CONTROL="true")
    assert answer([programs / "direct"], environment)["total"] > 64 * LIMIT


def test_a_hami_variable_that_makes_no_sense_stops_the_program(
    programs: Path, node: simulation.SimNode, tmp_path: Path
) -> None:
    done = run([programs / "direct"], hami(node, tmp_path, CUDA_DEVICE_MEMORY_LIMIT="lots"))
    assert done.returncode != 0
    assert "CUDA_DEVICE_MEMORY_LIMIT=lots" in done.stderr
