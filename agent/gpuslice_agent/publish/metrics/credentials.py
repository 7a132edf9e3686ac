"""Who may read /metrics, by HTTP basic authentication.

The file is what `htpasswd -nB USER` prints, a line for each user: passwords are hashed by bcrypt,
which is also what Prometheus's own web configuration takes.
"""

import base64
import binascii
import hashlib
import hmac
import os
import re
import threading
from pathlib import Path

import bcrypt

from gpuslice_agent.errors import PublishError
from gpuslice_agent.publish.metrics.fresh import Fresh

_HASH = re.compile(r"\$2[aby]\$(?:0[4-9]|1\d)\$[./A-Za-z0-9]{53}")
# bcrypt reads no more, and refuses more rather than to ignore it.
_PASSWORD_MAX = 72
# Checked for users that there are not, so that the time of an answer does not name those there are.
_NOBODY = bcrypt.hashpw(b"nobody", bcrypt.gensalt(10))

Users = dict[str, bytes]


class Credentials:
    def __init__(self, path: Path) -> None:
        self._users = Fresh((path,), lambda: read_users(path))
        self._key = os.urandom(32)
        self._good: tuple[Users, set[bytes]] = ({}, set())
        self._checking = threading.Lock()

    def admit(self, authorization: str) -> bool:
        """`authorization`: the header. A hash takes 50 ms on purpose, so a good one is remembered.

        One at a time is checked: whoever guesses keeps one core busy, and those known go past.
        """
        users = self._users.get()
        digest = hmac.digest(self._key, authorization.encode(), hashlib.sha256)
        if self._good[0] is not users:
            self._good = (users, set())
        good = self._good[1]
        if digest in good:
            return True
        with self._checking:
            right = _matches(users, authorization)
        if right:
            good.add(digest)
        return right


def read_users(path: Path) -> Users:
    """Users and the hashes of their passwords."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise PublishError(f"metrics_basic_auth_file {path} cannot be read: {error}.") from error
    users: Users = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        user, _, hashed = line.strip().partition(":")
        if not user or not _HASH.fullmatch(hashed):
            raise PublishError(
                f"metrics_basic_auth_file {path}, line {number}, is no USER:HASH with a hash of "
                "bcrypt: write what `htpasswd -nB USER` prints."
            )
        users[user] = hashed.encode()
    if not users:
        raise PublishError(
            f"metrics_basic_auth_file {path} names no user: write what `htpasswd -nB USER` prints."
        )
    return users


def _matches(users: Users, authorization: str) -> bool:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return False
    try:
        user, _, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return False
    hashed = users.get(user.decode(errors="replace"), _NOBODY)
    right = len(password) <= _PASSWORD_MAX and bcrypt.checkpw(password, hashed)
    return right and hashed is not _NOBODY
