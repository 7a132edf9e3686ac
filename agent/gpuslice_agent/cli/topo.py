"""`gpuslice topo`: what joins the GPUs and NICs of this node, as `nvidia-smi topo -m` shows it."""

import asyncio
import json
import os
from collections.abc import Iterator
from typing import Any

import click

from gpuslice_agent import config
from gpuslice_agent.driver_files import DriverFiles
from gpuslice_agent.nvml.process import Nvml
from gpuslice_agent.run_directory import RunDirectory
from gpuslice_agent.topology import Nic, PlacedGpu, Topology, place
from gpuslice_agent.topology.labels import model_of
from gpuslice_agent.topology.relation import MEANINGS


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object (see docs/operations.md).")
def command(as_json: bool) -> None:
    """Shows what joins the GPUs and RDMA NICs of this node: NVLink, PCIe switches, sockets.

    Asks the driver and the kernel; needs no agent.
    """
    settings = config.load(None, os.environ, {}, os.getuid())
    driver = DriverFiles(settings.driver_root, RunDirectory(settings.run_dir).driver)
    driver.name_to_children(os.environ)
    topology = asyncio.run(_read(settings, driver))
    if as_json:
        click.echo(json.dumps(document(topology), indent=2))
        return
    for line in (*matrix(topology), "", *legend(topology)):
        click.echo(line)


async def _read(settings: config.Config, driver: DriverFiles) -> Topology:
    nvml = Nvml(settings.nvml_deadline, settings.nvml_start_deadline, before_start=driver.link)
    try:
        return place(await nvml.topology(), settings.sysfs_dir)
    finally:
        await nvml.end()


def matrix(topology: Topology) -> Iterator[str]:
    """Everything against everything, then the CPUs and the NUMA node of each GPU."""
    gpus, nics = topology.gpus, topology.nics
    names = [*(f"GPU{gpu.facts.index}" for gpu in gpus), *(f"NIC{n}" for n in range(len(nics)))]
    rows = [["", *names, "CPU Affinity", "NUMA Affinity"]]
    for gpu, name in zip(gpus, names, strict=False):
        near = [str(topology.gpu_relation(gpu, other)) for other in gpus]
        near += [str(topology.nic_relation(gpu, nic)) for nic in nics]
        numa = "N/A" if gpu.numa_node is None else str(gpu.numa_node)
        rows.append([name, *near, gpu.cpus or "N/A", numa])
    for nic, name in zip(nics, names[len(gpus) :], strict=True):
        near = [str(topology.nic_relation(gpu, nic)) for gpu in gpus]
        near += [str(topology.between_nics(nic, other)) for other in nics]
        rows.append([name, *near, "", ""])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def legend(topology: Topology) -> Iterator[str]:
    yield from (f"{word:<5} {meaning}" for word, meaning in MEANINGS.items())
    if topology.nics:
        yield ""
        yield from (f"NIC{n}: {nic.name}" for n, nic in enumerate(topology.nics))


def document(topology: Topology) -> dict[str, Any]:
    return {
        "gpus": [_gpu(topology, gpu) for gpu in topology.gpus],
        "nics": [_nic(nic) for nic in topology.nics],
    }


def _gpu(topology: Topology, gpu: PlacedGpu) -> dict[str, Any]:
    facts, model = gpu.facts, model_of(gpu.facts)
    return {
        "index": facts.index,
        "uuid": facts.uuid,
        "name": facts.name,
        "model": {"name": model.name, "form": model.form, "memory_gib": model.memory_gib},
        "pci": facts.pci_address,
        "pcie_root": gpu.place.root or None,
        "pcie_switch": gpu.place.switch or None,
        "numa_node": gpu.numa_node,
        "cpus": gpu.cpus or None,
        "mig": {"capable": facts.mig_capable, "enabled": facts.mig_enabled},
        "fabric_clique": facts.clique or None,
        "nvlinks": [{"end": link.end, "pci": link.address} for link in facts.links],
        "nearest_nics": [nic.name for nic in topology.nearest_nics(gpu)],
        "gpus": {
            other.facts.uuid: str(topology.gpu_relation(gpu, other))
            for other in topology.gpus
            if other is not gpu
        },
        "nics": {nic.name: str(topology.nic_relation(gpu, nic)) for nic in topology.nics},
    }


def _nic(nic: Nic) -> dict[str, Any]:
    return {
        "name": nic.name,
        "pci": nic.place.address,
        "pcie_root": nic.place.root or None,
        "pcie_switch": nic.place.switch or None,
        "numa_node": nic.place.numa_node,
        "link_layer": nic.link_layer or None,
        "interfaces": list(nic.interfaces),
    }
