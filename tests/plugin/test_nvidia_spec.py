"""Reading the node's own CDI spec, as nvidia-ctk writes it."""

import os
from pathlib import Path

import pytest

from gpuslice_agent.model import Gpu
from gpuslice_plugin.errors import CdiError
from gpuslice_plugin.nvidia_spec import NvidiaSpecs

GPU = Gpu(1, "GPU-1234", "A100", "00000000:01:00.0", 80 << 30)
YAML = """
---
cdiVersion: 0.5.0
containerEdits:
  deviceNodes:
  - path: /dev/nvidiactl
  env:
  - NVIDIA_CTK_LIBCUDA_DIR=/usr/lib/x86_64-linux-gnu
devices:
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia1
  name: "{name}"
- name: all
kind: {kind}
"""


def spec(path: Path, name: str = "1", kind: str = "nvidia.com/gpu", extra: str = "") -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(YAML.format(name=name, kind=kind) + extra)


@pytest.mark.parametrize("name", ["1", "GPU-1234", "gpu1"])
def test_a_gpu_is_found_by_whatever_name_the_tool_was_told_to_use(
    tmp_path: Path, name: str
) -> None:
    spec(tmp_path / "nvidia.yaml", name)
    version, common, own = NvidiaSpecs([tmp_path]).of_gpu(GPU)
    assert version == "0.5.0"
    assert common["deviceNodes"] == [{"path": "/dev/nvidiactl"}]
    assert own == {"deviceNodes": [{"path": "/dev/nvidia1"}]}


def test_a_uuid_goes_over_an_index_which_another_boot_may_have_given_another_gpu(
    tmp_path: Path,
) -> None:
    spec(tmp_path / "a.yaml", "GPU-1234")
    spec(tmp_path / "b.yaml", "1")
    text = (tmp_path / "b.yaml").read_text().replace("/dev/nvidia1", "/dev/nvidia7")
    (tmp_path / "b.yaml").write_text(text)
    _, _, own = NvidiaSpecs([tmp_path]).of_gpu(GPU)
    assert own == {"deviceNodes": [{"path": "/dev/nvidia1"}]}


def test_a_later_directory_goes_over_an_earlier_one(tmp_path: Path) -> None:
    spec(tmp_path / "etc" / "nvidia.yaml")
    spec(tmp_path / "run" / "nvidia.yaml", extra="# newer\n")
    text = (tmp_path / "run" / "nvidia.yaml").read_text().replace("0.5.0", "0.6.0")
    (tmp_path / "run" / "nvidia.yaml").write_text(text)
    directories = [tmp_path / "etc", tmp_path / "missing", tmp_path / "run"]
    assert NvidiaSpecs(directories).of_gpu(GPU)[0] == "0.6.0"


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    spec(tmp_path / "nvidia.yaml", "0")
    specs = NvidiaSpecs([tmp_path])
    with pytest.raises(CdiError, match="nvidia-ctk cdi generate"):
        specs.of_gpu(GPU)
    spec(tmp_path / "nvidia.yaml", "1")
    os.utime(tmp_path / "nvidia.yaml", ns=(1, 1))
    specs.of_gpu(GPU)


def test_files_of_others_and_damaged_ones_are_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec(tmp_path / "b.yaml")
    spec(tmp_path / "c.yaml", kind="vendor.com/nic")
    (tmp_path / "d.yaml").write_text("kind: nvidia.com/gpu\ndevices: [")
    (tmp_path / "e.json").write_text('{"kind": "nvidia.com/gpu"}')
    (tmp_path / "f.json").write_text("[] nvidia.com/gpu")
    (tmp_path / "notes.txt").write_text("nvidia.com/gpu")
    assert NvidiaSpecs([tmp_path]).of_gpu(GPU)[0] == "0.5.0"
    damaged = sorted(Path(one.split("path=")[1].split()[0]).name for one in caplog.messages)
    assert damaged == ["d.yaml", "e.json", "f.json"]
