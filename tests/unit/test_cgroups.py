"""Pods among the control groups, by every layout that a kubelet makes."""

from pathlib import Path

import pytest

from gpuslice_agent.cgroups import Place, PodCgroups, place

UID = "0d1f6a2b-3c4d-4e5f-8a9b-0c1d2e3f4a5b"
SLICE = UID.replace("-", "_")
CONTAINER = "ab" * 32


@pytest.mark.parametrize(
    "path",
    [
        f"/kubepods/besteffort/pod{UID}/{CONTAINER}",
        f"/kubepods/pod{UID}/{CONTAINER}",
        f"/kubelet/kubepods/burstable/pod{UID}/{CONTAINER}",
        f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{SLICE}.slice/"
        f"cri-containerd-{CONTAINER}.scope",
        f"/kubepods.slice/kubepods-pod{SLICE}.slice/crio-{CONTAINER}.scope",
        f"/../../pod{UID}/{CONTAINER}",  # seen from another container's cgroup namespace
    ],
)
def test_a_process_is_in_the_pod_and_container_of_its_cgroup(path: str) -> None:
    assert place(f"0::{path}\n") == Place(UID, CONTAINER)
    first_version = f"9:name=systemd:/\n4:memory,hugetlb:{path}\n0::/\n"
    assert place(first_version) == Place(UID, CONTAINER)


def test_a_static_pod_is_known_by_its_hash() -> None:
    uid = "0123456789abcdef" * 2
    assert place(f"0::/kubepods/burstable/pod{uid}/{CONTAINER}") == Place(uid, CONTAINER)


def test_a_process_of_a_pod_outside_its_containers_has_the_pod_alone() -> None:
    assert place(f"0::/kubepods/besteffort/pod{UID}") == Place(UID, "")


@pytest.mark.parametrize(
    "text",
    ["", "0::/\n", "0::/user.slice/session-1.scope", f"0::/podman/pod-{UID}", "0::/kubepods/podx"],
)
def test_a_process_outside_pods_has_neither(text: str) -> None:
    assert place(text) == Place("", "")


CGROUPFS = ("kubepods/besteffort/pod{}", "kubepods/burstable/pod{}", "kubepods/pod{}")
SYSTEMD = (
    "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{}.slice",
    "kubepods.slice/kubepods-pod{}.slice",
)


@pytest.mark.parametrize(
    "path", [one.format(UID) for one in CGROUPFS] + [one.format(SLICE) for one in SYSTEMD]
)
@pytest.mark.parametrize("controller", ["", "memory"])
def test_a_pod_is_found_whatever_its_class_driver_and_version(
    tmp_path: Path, path: str, controller: str
) -> None:
    made = tmp_path / controller / path
    made.mkdir(parents=True)
    if not controller:
        (tmp_path / "cgroup.procs").touch()
    assert PodCgroups(tmp_path, "/").find(UID) == made
    assert PodCgroups(tmp_path, "/").find(UID.replace("0", "f")) is None


@pytest.mark.parametrize(
    "path",
    [
        f"kubelet/kubepods/pod{UID}",
        f"kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{SLICE}.slice",
    ],
)
def test_a_kubelet_may_have_a_root_of_its_own(tmp_path: Path, path: str) -> None:
    (tmp_path / path).mkdir(parents=True)
    assert PodCgroups(tmp_path, "/kubelet").find(UID) == tmp_path / path
    assert PodCgroups(tmp_path, "/").find(UID) is None
