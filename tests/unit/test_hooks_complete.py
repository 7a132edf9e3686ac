"""No function of the driver that takes device memory or makes the GPU work escapes the shim.

Which functions those are is decided by rule, from names and prototypes, over every header there
is: the newest (with __CUDA_API_VERSION_INTERNAL, which shows the old ABIs and both default streams,
and with OpenGL, EGL and VDPAU) and the oldest. Each is either hooked (native/shim/hooks.def) or
stands in native/shim/forwarded.tsv with the reason why the driver's own function may be called.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

NATIVE = Path(__file__).parents[2] / "native"
SHIM = NATIVE / "shim"
HEADERS = ("cuda.h", "cudaGL.h", "cudaEGL.h", "cudaVDPAU.h")
FOREIGN = ("GL/gl.h", "EGL/egl.h", "EGL/eglext.h", "vdpau/vdpau.h")
PROTOTYPE = re.compile(r"\bCUresult\s+(cu[A-Z]\w*)\s*\(([^;{]*)\)\s*;")
HOOK = re.compile(r"^HOOK\((\w+)\)", re.MULTILINE)
VARIANT = re.compile(r"(_v\d)?(_ptsz|_ptds)?$")

# What a function hands out when it has taken device memory, or taken part in taking it.
MEMORY_RESULTS = (
    "CUdeviceptr",
    "CUdeviceptr_v1",
    "CUarray",
    "CUmipmappedArray",
    "CUmemGenericAllocationHandle",
    "CUmemoryPool",
    "CUcontext",
    "CUgreenCtx",
    "CUmodule",
    "CUlibrary",
    "CUfunction",
    "CUkernel",
    "CUgraphExec",
    "CUexternalMemory",
)
RESULT = re.compile(rf"\b({'|'.join(MEMORY_RESULTS)})\s*\*\s*(\w+)\s*$")

# Names of what takes memory, gives it back, or makes the GPU work without a result that shows it.
RULES = {
    "launches work": r"cu(Launch\w*|GraphLaunch|GraphUpload)",
    "copies or sets memory": r"cuMem(cpy|set)\w*",
    "moves memory": r"cuMem(Prefetch|Discard|MapArray|BatchDecompress)\w*|cuFabricCpy\w*",
    "works in a stream": r"cuStream(BatchMemOp|WriteValue32|WriteValue64|AttachMemAsync)",
    "allocates": r"cu\w*(Alloc|ArrayCreate|HostRegister)\w*",
    "grows or trims memory": r"cuMemPool(Create|Destroy|TrimTo|SetAttribute|Import\w*)"
    r"|cuDeviceGraphMemTrim|cuDeviceSetMemPool|cuMemSetMemPool|cuCtxSetLimit",
    "gives memory back": r"cuMem(Free|Release|Unmap|HostUnregister)\w*"
    r"|cu(Array|MipmappedArray|Ctx|GreenCtx|GraphExec|Graph)Destroy"
    r"|cu(Module|Library)Unload|cuDevicePrimaryCtx(Release|Reset)|cuIpcCloseMemHandle",
    "loads code": r"cu(ModuleLoad|LibraryLoad)\w*",
    "makes a context": r"cu(Ctx|GreenCtx|CtxFromGreenCtx)\w*Create\w*|cuDevicePrimaryCtxRetain",
    "changes what a graph will run": r"cuGraph(Instantiate\w*|ExecUpdate|Exec\w*SetParams)",
    "tells how much memory there is": r"cuMemGetInfo|cuDeviceTotalMem",
    "is a way to the driver": r"cuInit|cuGetProcAddress|cuGetExportTable",
}


@dataclass(frozen=True)
class Function:
    name: str
    parameters: tuple[str, ...]

    def base(self) -> str:
        return VARIANT.sub("", self.name)

    def concern(self) -> str | None:
        """Why the shim has to know this function, or None."""
        for concern, pattern in RULES.items():
            if re.fullmatch(pattern, self.base()):
                return concern
        for parameter in self.parameters:
            if "const" not in parameter and RESULT.search(parameter):
                return f"hands out {parameter}"
        return None


def header_folders() -> list[Path]:
    """The newest headers, and the oldest that are supported, as their wheels unpack them."""
    found = [
        Path(path, "nvidia", folder, "include")
        for path in sys.path
        for folder in ("cu13", "cuda_runtime")
    ]
    return [folder for folder in found if (folder / "cuda.h").exists()]


def compiler() -> list[str]:
    if named := os.environ.get("CC"):
        return named.split()
    return ["cc"] if shutil.which("cc") else [sys.executable, "-m", "ziglang", "cc"]


def functions(include: Path, scratch: Path) -> set[Function]:
    for header in FOREIGN:  # their types do not matter here
        path = scratch / header
        path.parent.mkdir(exist_ok=True, parents=True)
        path.touch()
    present = [header for header in HEADERS if (include / header).exists()]
    done = subprocess.run(
        [
            *compiler(),
            "-E",
            "-P",
            "-x",
            "c",
            "-D__CUDA_API_VERSION_INTERNAL",
            f"-I{include}",
            f"-I{scratch}",
            "-",
        ],
        input="".join(f"#include <{header}>\n" for header in present),
        capture_output=True,
        text=True,
        check=True,
    )
    text = " ".join(done.stdout.split())
    return {
        Function(name, tuple(parameter.strip() for parameter in parameters.split(",")))
        for name, parameters in PROTOTYPE.findall(text)
    }


def hooked() -> set[str]:
    return set(HOOK.findall((SHIM / "hooks.def").read_text()))


def forwarded() -> dict[str, str]:
    lines = (SHIM / "forwarded.tsv").read_text().splitlines()
    return dict(line.split("\t", 1) for line in lines if line and not line.startswith("#"))


@pytest.fixture(scope="module", params=header_folders(), ids=lambda path: path.parent.name)
def driver(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> set[Function]:
    return functions(request.param, tmp_path_factory.mktemp("foreign"))


def test_what_takes_memory_or_works_is_hooked_or_forwarded_with_a_reason(
    driver: set[Function],
) -> None:
    assert len(driver) > 400
    known, patterns = hooked(), forwarded()
    missing = {
        function.name: concern
        for function in driver
        if (concern := function.concern())
        and function.name not in known
        and not any(fnmatchcase(function.name, pattern) for pattern in patterns)
    }
    assert not missing


def test_every_hook_is_a_function_of_the_driver() -> None:
    table = (NATIVE / "symbols" / "cuda.tsv").read_text().splitlines()
    assert hooked() <= {line.split("\t")[0] for line in table}


def test_no_function_is_both_hooked_and_forwarded() -> None:
    assert not {
        (hook, pattern)
        for hook in hooked()
        for pattern in forwarded()
        if fnmatchcase(hook, pattern)
    }


def test_every_forwarded_pattern_means_a_function_and_says_why() -> None:
    names = [
        line.split("\t")[0] for line in (NATIVE / "symbols" / "cuda.tsv").read_text().splitlines()
    ]
    for pattern, reason in forwarded().items():
        assert any(fnmatchcase(name, pattern) for name in names), pattern
        assert len(reason.split()) >= 4, pattern


def test_both_default_streams_are_hooked_alike() -> None:
    names = {
        line.split("\t")[0] for line in (NATIVE / "symbols" / "cuda.tsv").read_text().splitlines()
    }
    hooks = hooked()
    twins = {hook + suffix for hook in hooks for suffix in ("_ptsz", "_ptds")} & names
    assert twins <= hooks
