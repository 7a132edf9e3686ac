"""Tenants of one node, most of them to be killed at a random moment."""

import os
import random
import signal
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ..acceptance.node import GPUSLICE, Node, Run, environment_of
from ..sim.c_programs import KERNELS, build
from ..sim.share_on_node import show

MIB = 2**20
PATIENT_SHARE = "--cores 20 --mem 2GiB"
OWN_SHARE = "--cores 10 --mem 5GiB"  # two of launch_loop
# What a doomed program may say: that a share was full, or that the agent died as it asked it.
OUT_OF_MEMORY = "CUDA_ERROR_OUT_OF_MEMORY"
REFUSED = "gpuslice: "


def build_programs(folder: Path) -> Path:
    build(folder / "launch_loop", "launch_loop.c", flags=("-lcuda",))
    for name in ("memory_random", "memory_threads"):
        build(folder / name, f"{name}.c", "memory_kinds.c", flags=("-lcuda",))
    (folder / "input").write_text("1000\n")  # to launch_loop, for how many seconds
    return folder


@dataclass
class Crowd:
    node: Node
    programs: Path
    chance: random.Random
    patient: list[Run] = field(default_factory=list[Run])
    doomed: list[subprocess.Popen[bytes]] = field(default_factory=list[subprocess.Popen[bytes]])
    counts: Counter[str] = field(default_factory=Counter[str])

    def add_patient(self, gpu: int) -> None:
        """On a line of input it takes or gives some memory, and says so."""
        words = (self.programs / "memory_random", str(gpu), "1000000", str(64 * MIB))
        run = self.node.run(f"{PATIENT_SHARE} --gpu {gpu}", *words)
        run.says()
        self.patient.append(run)

    def add_doomed(self) -> None:
        """With a share of its own, alone or as two processes, or in the share of a patient one."""
        kind = self.chance.choice(["own", "own", "pair", "joined"])
        work = self._work(memory_only=kind == "joined")
        if kind == "pair":
            work = ["sh", "-c", '"$@" & "$@" & wait', "sh", *work]
        if kind == "joined":
            environment = environment_of(self.chance.choice(self.patient).pid)
        else:
            environment = self.node.environment
            work = [*GPUSLICE, "run", *OWN_SHARE.split(), "--", *work]
        with (
            (self.programs / "input").open() as stdin,
            (self.programs / "errors").open("a") as errors,
        ):
            process = subprocess.Popen(
                work,
                env=environment,
                stdin=stdin,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
        self.doomed.append(process)
        self.counts[kind] += 1

    def _work(self, memory_only: bool) -> list[str]:
        chosen = self.chance.choice(["memory_random", "memory_threads", "launch_loop"])
        if chosen == "launch_loop" and not memory_only:
            mode = self.chance.choice(["loop", "graph", "streams4"])
            options = ["--ptx", str(KERNELS), "--kernel-us", "200", "--mode", mode]
            return [str(self.programs / chosen), *options]
        if chosen == "memory_random":
            seed = str(self.chance.randrange(1000))
            return [str(self.programs / chosen), seed, "1000000", str(200 * MIB)]
        return [str(self.programs / "memory_threads"), "3", "1000000", str(100 * MIB)]

    def kill_one(self) -> None:
        """Any process of any doomed tenant, at whatever it does."""
        self._reap()
        if not self.doomed:
            return
        pid = self.chance.choice(self.doomed).pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        os.kill(self.chance.choice([pid, *map(int, children)]), signal.SIGKILL)
        self.counts["kills"] += 1

    def close(self) -> None:
        for process in self.doomed:
            process.kill()
            process.wait()
        for run in self.patient:
            run.close()

    def kill_all_doomed(self) -> None:
        for process in self.doomed:
            process.kill()
        while orphans := self._orphans():
            for pid in orphans:
                os.kill(pid, signal.SIGKILL)
        for process in self.doomed:
            process.wait()
        self._reap()
        self._check_what_was_said()

    def _orphans(self) -> list[int]:
        patient = [run.pid for run in self.patient]
        return [
            process["pid"]
            for process in show(self.node.sim)["processes"]
            if process["alive"] and process["pid"] not in patient
        ]

    def _reap(self) -> None:
        for process in [one for one in self.doomed if one.poll() is not None]:
            self.doomed.remove(process)
            self.counts[f"status {process.returncode}"] += 1

    def _check_what_was_said(self) -> None:
        errors = self.programs / "errors"
        for line in errors.read_text().splitlines():
            if OUT_OF_MEMORY in line:
                self.counts["share was full"] += 1
            elif line.startswith(REFUSED):
                self.counts["refused"] += 1
            else:
                assert line == "Killed", line  # a shell's word for its child
        errors.write_text("")
