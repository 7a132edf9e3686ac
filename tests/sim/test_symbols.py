"""What is generated from NVIDIA's headers and from the built driver is up to date."""

import subprocess
import sys
from pathlib import Path

from gpuslice_agent import native_files

from .c_programs import compiler, cuda_headers

SYMBOLS = Path(__file__).parents[2] / "native" / "symbols"


def run(*command: str | Path) -> None:
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_list_of_symbols_is_that_of_the_newest_headers() -> None:
    preprocessor = " ".join(compiler())
    include = cuda_headers()
    run(SYMBOLS / "generate.py", "--check", "--include", include, "--compiler", preprocessor)


def test_the_page_says_what_the_driver_models() -> None:
    run(SYMBOLS / "document.py", "--check", native_files.simulation() / "libcuda.so.1")
