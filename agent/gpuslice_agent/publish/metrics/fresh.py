"""What was read from files, and is read anew when they change: secrets are renewed in place."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from gpuslice_agent.errors import PublishError

log = logging.getLogger(__name__)

T = TypeVar("T")


class Fresh(Generic[T]):
    """Raises PublishError if the files are wrong from the start; later the last good ones hold."""

    def __init__(self, paths: Sequence[Path], read: Callable[[], T]) -> None:
        self._paths = paths
        self._read = read
        self._stamp = self._seen()
        self._value = read()

    def get(self) -> T:
        stamp = self._seen()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._value = self._read()
            except PublishError as error:
                log.error("metrics keep the last good files reason=%s", error)
        return self._value

    def _seen(self) -> tuple[tuple[int, int, int], ...]:
        """Kubernetes renews a Secret by another link: then it is another inode."""
        found: list[tuple[int, int, int]] = []
        for path in self._paths:
            try:
                stat = path.stat()
            except OSError:
                found.append((0, 0, 0))
            else:
                found.append((stat.st_ino, stat.st_mtime_ns, stat.st_size))
        return tuple(found)
