"""The CDI files by which containers get their shares."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpuslice_agent.model import Gpu, Limits, Owner, OwnerKind, Share, ShareState
from gpuslice_plugin.cdi import PRELOAD, SHARES, SHIM, ShimFiles, Spec, device_id, file_of
from gpuslice_plugin.errors import CdiError
from gpuslice_plugin.nvidia_spec import NvidiaSpecs

GPUS = {
    f"GPU-{index}": Gpu(index, f"GPU-{index}", "A100", f"00000000:0{index}:00.0", 80 << 30)
    for index in range(3)
}
LIMITS = Limits(30, 8 << 30)
WHOLE = Limits(100, 80 << 30, whole=True)


def nvidia(path: Path, version: str = "0.5.0") -> None:
    """What nvidia-ctk writes, in short."""
    document = {
        "cdiVersion": version,
        "kind": "nvidia.com/gpu",
        "containerEdits": {
            "env": ["NVIDIA_VISIBLE_DEVICES=all", "DRIVER=1"],
            "deviceNodes": [{"path": "/dev/nvidiactl"}],
            "mounts": [{"hostPath": "/lib/libcuda.so.1", "containerPath": "/lib/libcuda.so.1"}],
            "hooks": [{"hookName": "createContainer", "path": "/usr/bin/nvidia-cdi-hook"}],
        },
        "devices": [
            {"name": name, "containerEdits": {"deviceNodes": [{"path": f"/dev/nvidia{index}"}]}}
            for index in (0, 1)
            for name in (str(index), f"GPU-{index}")
        ],
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document))


@pytest.fixture
def files(tmp_path: Path) -> Spec:
    nvidia(tmp_path / "nvidia" / "nvidia.json")
    shim = ShimFiles(Path("/state/shim/libgpuslice-1.so"), Path("/state/shim/ld.so.preload"))
    return Spec(tmp_path / "cdi", NvidiaSpecs([tmp_path / "nvidia"]), shim, GPUS.get)


def of_pod(
    id: str, gpu: int = 0, limits: Limits = LIMITS, names: tuple[str, ...] = ("main",)
) -> Share:
    owner = Owner(kind=OwnerKind.CONTAINER, pod_uid="uid-1", key=f"pod/{id}", cdi_devices=names)
    directory = "" if limits.whole else f"/run/gpuslice/shares/{id}"
    return Share(id, f"GPU-{gpu}", limits, owner, 1.0, directory)


def of_claim(id: str, name: str) -> Share:
    owner = Owner(kind=OwnerKind.CLAIM, claim_uid="uid-2", key=f"claim/{id}", cdi_devices=(name,))
    return replace(of_pod(id), owner=owner)


def written(tmp_path: Path, name: str) -> dict[str, Any]:
    """The edits of each device of the file."""
    path = tmp_path / "cdi" / f"k8s.gpu.gpuslice.io-{name}.json"
    document = json.loads(path.read_text())
    assert document["kind"] == "k8s.gpu.gpuslice.io/share"
    return {device["name"]: device["containerEdits"] for device in document["devices"]}


def mounts(edits: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {
        one["containerPath"]: (one["hostPath"], ",".join(one.get("options", ())))
        for one in edits["mounts"]
    }


def test_a_share_brings_its_files_the_shim_and_what_the_node_says_of_its_gpu(
    files: Spec, tmp_path: Path
) -> None:
    assert files.write("uid-1", [of_pod("one")]) == "k8s.gpu.gpuslice.io/share=main"
    edits = written(tmp_path, "uid-1")["main"]
    there = mounts(edits)
    source = "/run/gpuslice/shares/one"
    assert there[f"{SHARES}/one/grant"] == (f"{source}/grant", "ro,nosuid,nodev,bind,noexec")
    assert there[f"{SHARES}/one/usage"] == (f"{source}/usage", "rw,nosuid,nodev,noexec,bind")
    assert there[f"{SHARES}/one/doorbell"][1].startswith("rw,")
    assert there[SHIM] == ("/state/shim/libgpuslice-1.so", "ro,nosuid,nodev,bind")
    assert there[PRELOAD] == ("/state/shim/ld.so.preload", "ro,nosuid,nodev,bind")
    assert "/lib/libcuda.so.1" in there
    assert [one["path"] for one in edits["deviceNodes"]] == ["/dev/nvidiactl", "/dev/nvidia0"]
    assert len(edits["hooks"]) == 1


def test_no_other_way_of_injecting_gpus_adds_any(files: Spec, tmp_path: Path) -> None:
    files.write("uid-1", [of_pod("one")])
    assert written(tmp_path, "uid-1")["main"]["env"] == ["NVIDIA_VISIBLE_DEVICES=void", "DRIVER=1"]


def test_a_whole_gpu_comes_without_shim_and_files(files: Spec, tmp_path: Path) -> None:
    files.write("uid-1", [of_pod("one", 1, WHOLE)])
    edits = written(tmp_path, "uid-1")["main"]
    assert list(mounts(edits)) == ["/lib/libcuda.so.1"]
    assert edits["deviceNodes"][-1] == {"path": "/dev/nvidia1"}


def test_a_container_with_two_shares_sees_two_directories_and_one_driver(
    files: Spec, tmp_path: Path
) -> None:
    files.write("uid-1", [of_pod("one", 0), of_pod("two", 1)])
    edits = written(tmp_path, "uid-1")["main"]
    there = mounts(edits)
    assert {f"{SHARES}/one/grant", f"{SHARES}/two/grant"} < there.keys()
    assert len(edits["mounts"]) == len(there)
    assert len(edits["deviceNodes"]) == 3
    assert len(edits["hooks"]) == 1


def test_of_several_names_of_a_container_one_carries_the_share(files: Spec, tmp_path: Path) -> None:
    names = (device_id("gpu"), device_id("cores"))
    assert files.write("uid-1", [of_pod("one", names=names)]) == names[0]
    devices = written(tmp_path, "uid-1")
    assert SHIM in mounts(devices["gpu"])
    assert devices["cores"] == {"env": ["NVIDIA_VISIBLE_DEVICES=void"]}


def test_containers_of_a_pod_get_a_device_each(files: Spec, tmp_path: Path) -> None:
    files.write("uid-1", [of_pod("one"), of_pod("two", names=("sidecar",))])
    devices = written(tmp_path, "uid-1")
    assert f"{SHARES}/two/grant" in mounts(devices["sidecar"])
    assert f"{SHARES}/two/grant" not in mounts(devices["main"])


def test_the_version_is_the_newest_that_any_part_needs(files: Spec, tmp_path: Path) -> None:
    nvidia(tmp_path / "nvidia" / "nvidia.json", "0.10.0")
    files.write("uid-1", [of_pod("one")])
    (path,) = (tmp_path / "cdi").iterdir()
    assert json.loads(path.read_text())["cdiVersion"] == "0.10.0"
    nvidia(tmp_path / "nvidia" / "nvidia.json", "0.3.0")
    files.write("uid-1", [of_pod("one")])
    assert json.loads(path.read_text())["cdiVersion"] == "0.5.0"


def test_a_file_appears_whole_and_is_readable_to_the_runtime(files: Spec, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        files.write("uid-1", [of_pod("one")])
    finally:
        os.umask(before)
    (path,) = (tmp_path / "cdi").iterdir()
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_file_that_is_right_is_not_written_again(files: Spec, tmp_path: Path) -> None:
    files.write("uid-1", [of_pod("one")])
    (path,) = (tmp_path / "cdi").iterdir()
    inode = path.stat().st_ino
    files.write("uid-1", [of_pod("one")])
    assert path.stat().st_ino == inode


def test_removing_is_idempotent_and_leaves_the_files_of_others(files: Spec, tmp_path: Path) -> None:
    files.write("uid-1", [of_pod("one")])
    files.write("uid-2-0", [of_claim("two", "uid-2-0")])
    (tmp_path / "cdi" / "other.json").write_text("{}")
    assert files.present() == {"uid-1", "uid-2-0"}
    files.remove("uid-1")
    files.remove("uid-1")
    assert files.present() == {"uid-2-0"}
    assert (tmp_path / "cdi" / "other.json").exists()


def test_a_gpu_that_is_not_there_is_said(files: Spec) -> None:
    with pytest.raises(CdiError, match="GPU-9 is not to be seen"):
        files.write("uid-1", [replace(of_pod("one"), gpu_uuid="GPU-9")])
    with pytest.raises(CdiError, match=r"No CDI spec in .* has nvidia.com/gpu=GPU-2: make one"):
        files.write("uid-1", [of_pod("one", 2)])
    assert files.present() == set()


def test_a_directory_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    nvidia(tmp_path / "nvidia" / "nvidia.json")
    (tmp_path / "cdi").write_text("a file")
    shim = ShimFiles(Path("/shim"), Path("/preload"))
    files = Spec(tmp_path / "cdi", NvidiaSpecs([tmp_path / "nvidia"]), shim, GPUS.get)
    with pytest.raises(CdiError, match="cannot be written"):
        files.write("uid-1", [of_pod("one")])


def test_after_a_restart_the_files_are_those_of_the_shares(files: Spec, tmp_path: Path) -> None:
    kept, claimed = of_pod("one"), of_claim("two", "uid-2-0")
    files.write("uid-1", [kept])
    files.write("stray", [of_pod("gone")])
    files.write("stray-whole", [of_pod("gone", 1, WHOLE)])
    files.write("ending", [of_claim("three", "ending")])
    cdi = tmp_path / "cdi"
    (cdi / "k8s.gpu.gpuslice.io-uid-1.json").write_text('{"damaged": ')
    (cdi / "k8s.gpu.gpuslice.io-damaged.json").write_bytes(b"\x00")
    (cdi / "k8s.gpu.gpuslice.io-half.json.new").write_text("{")
    ending = replace(of_claim("three", "ending"), state=ShareState.ENDING)
    assert files.agree([kept, claimed, ending])
    assert {path.name for path in cdi.iterdir()} == {
        "k8s.gpu.gpuslice.io-uid-1.json",
        "k8s.gpu.gpuslice.io-uid-2-0.json",
    }
    assert f"{SHARES}/one/grant" in mounts(written(tmp_path, "uid-1")["main"])
    assert file_of(kept) == "uid-1" and file_of(claimed) == "uid-2-0"


def test_admin_access_outlives_a_restart_until_it_is_taken_away(
    files: Spec, tmp_path: Path
) -> None:
    assert files.write_bare("uid-3-0", "GPU-1", "default/mine") == device_id("uid-3-0")
    edits = written(tmp_path, "uid-3-0")["uid-3-0"]
    assert edits["deviceNodes"][-1] == {"path": "/dev/nvidia1"}
    assert SHIM not in mounts(edits)
    files.agree([])
    assert files.present() == {"uid-3-0"}


def test_what_cannot_be_written_now_stays_as_it_is(
    files: Spec, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    share = of_pod("one")
    files.write("uid-1", [share])
    before = written(tmp_path, "uid-1")
    (tmp_path / "nvidia" / "nvidia.json").unlink()
    assert not files.agree([share])
    assert written(tmp_path, "uid-1") == before
    assert "CDI file not written" in caplog.text
