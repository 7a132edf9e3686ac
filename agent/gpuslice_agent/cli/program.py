"""How `run` and `sim` start what follows `--`: by exec, so nothing of ours stays between.

The program keeps our pid, terminal, process group and parent. Its exit status and every signal,
also SIGKILL and job control, are therefore exactly what they would be without us.
"""

import errno
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from gpuslice_agent.errors import GpusliceError


class CommandError(GpusliceError):
    """The program cannot be started; `status` is what a shell says in that case."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


def find(name: str) -> str:
    """The path of a program, before anything is done that would have to be undone."""
    if path := shutil.which(name):
        return path
    if "/" in name and Path(name).is_dir():
        raise CommandError(f"{name}: is a directory, not a program.", 126)
    if "/" in name and Path(name).exists():
        raise CommandError(f"{name}: is not executable.", 126)
    raise CommandError(f"{name}: command not found.", 127)


def replace_us(path: str, arguments: tuple[str, ...], environment: Mapping[str, str]) -> NoReturn:
    # Python ignores these two, and exec would hand that on: `CMD | head` would no longer end.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        try:
            os.execve(path, arguments, environment)
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            # A script whose first line names no interpreter: the shell's, as execvp() has it.
            os.execve("/bin/sh", ("/bin/sh", path, *arguments[1:]), environment)
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}.", 126) from error
