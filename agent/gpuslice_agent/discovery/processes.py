"""The names of processes."""

import psutil


def process_name(pid: int) -> str:
    """Empty for a process that is gone or hidden from us."""
    if pid <= 0:
        return ""
    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        return ""
