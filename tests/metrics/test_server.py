"""How /metrics is served: forms, passwords, certificates, and what is said to each mistake."""

import base64
import gzip
import http.client
import os
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import bcrypt
import msgspec
import pytest

from gpuslice_agent.config import Config
from gpuslice_agent.errors import PublishError
from gpuslice_agent.publish.metrics import serve_metrics
from gpuslice_agent.publish.metrics.negotiation import format_of, takes_gzip
from gpuslice_agent.publish.metrics.page import Format

from .nodes import full, written

SNAPSHOT = full(1, 1)
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


def config(tmp_path: Path, **more: str) -> Config:
    address = free_address()
    plain = Config(run_dir=tmp_path, state_dir=tmp_path, metrics_address=address)
    return msgspec.structs.replace(plain, **more)


@contextmanager
def serving(settings: Config) -> Generator[http.client.HTTPConnection]:
    """A connection that stays open, as a scraper's does."""
    with serve_metrics(settings, lambda: SNAPSHOT):
        connection = http.client.HTTPConnection(settings.metrics_address, timeout=30)
        try:
            yield connection
        finally:
            connection.close()


def get(
    connection: http.client.HTTPConnection, path: str = "/metrics", **headers: str
) -> tuple[int, str, bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("GET", path, headers=named)
    answer = connection.getresponse()
    return answer.status, answer.headers.get("Content-Type", ""), answer.read()


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", Format.TEXT),
        ("*/*", Format.TEXT),
        ("text/html", Format.TEXT),
        (PROMETHEUS, Format.OPENMETRICS),
        ("application/openmetrics-text", Format.OPENMETRICS),
        ('application/openmetrics-text; version="1.0.0"; charset=utf-8', Format.OPENMETRICS),
        ("application/openmetrics-text;version=2.0.0,text/plain;q=0.1", Format.TEXT),
        ("application/openmetrics-text;q=0.1,text/plain;q=0.5", Format.TEXT),
        ("application/openmetrics-text;q=0", Format.TEXT),
        ("application/openmetrics-text;q=lots", Format.TEXT),
        (";;,=;q,", Format.TEXT),
    ],
)
def test_openmetrics_is_for_who_prefers_it(accept: str, form: Format) -> None:
    assert format_of(accept) is form


@pytest.mark.parametrize(
    ("encodings", "yes"),
    [("", False), ("gzip", True), ("br, GZIP;q=0.5", True), ("gzip;q=0", False), ("*", True)],
)
def test_gzip_is_for_who_takes_it(encodings: str, yes: bool) -> None:
    assert takes_gzip(encodings) is yes


def test_one_connection_is_answered_in_every_form(tmp_path: Path) -> None:
    plain = written(SNAPSHOT).encode()
    with serving(config(tmp_path)) as connection:
        assert get(connection) == (200, Format.TEXT, plain)
        status, kind, body = get(connection, Accept_Encoding="gzip")
        assert (status, kind, gzip.decompress(body)) == (200, Format.TEXT, plain)
        status, kind, body = get(connection, Accept=PROMETHEUS)
        assert (status, kind) == (200, Format.OPENMETRICS)
        assert body.endswith(b"# EOF\n")
        assert get(connection, "/healthz")[0] == 200
        assert get(connection, "/elsewhere")[0] == 404
        connection.request("HEAD", "/metrics")
        answer = connection.getresponse()
        assert (answer.headers["Content-Length"], answer.read()) == (str(len(plain)), b"")


def test_who_connects_and_says_nothing_keeps_nobody_waiting(tmp_path: Path) -> None:
    settings = config(tmp_path)
    host, _, port = settings.metrics_address.partition(":")
    with serving(settings) as connection:
        silent = [socket.create_connection((host, int(port))) for _ in range(20)]
        assert get(connection)[0] == 200
        for one in silent:
            one.close()


# -- passwords ------------------------------------------------------------


def hashed(password: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_only_users_of_the_file_read_the_page(tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text(f"# scrapers\n\nprometheus:{hashed('seven:eight')}\nyou:{hashed('')}\n")
    with serving(config(tmp_path, metrics_basic_auth_file=str(users))) as connection:
        for authorization in (
            "",
            basic("prometheus", "seven"),
            basic("nobody", "seven:eight"),
            basic("nobody", "nobody"),
            basic("you", "x" * 100),
            "Basic !",
            "Bearer x",
        ):
            assert get(connection, Authorization=authorization)[0] == 401, authorization
        for _ in range(2):
            assert get(connection, Authorization=basic("prometheus", "seven:eight"))[0] == 200
        assert get(connection, Authorization=basic("you", ""))[0] == 200
        assert get(connection, "/healthz")[0] == 200


def test_a_changed_password_holds_at_once_and_a_broken_file_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    users = tmp_path / "users"
    users.write_text(f"one:{hashed('old')}")
    with serving(config(tmp_path, metrics_basic_auth_file=str(users))) as connection:
        assert get(connection, Authorization=basic("one", "old"))[0] == 200
        users.write_text(f"one:{hashed('newer')}\n")
        assert get(connection, Authorization=basic("one", "old"))[0] == 401
        assert get(connection, Authorization=basic("one", "newer"))[0] == 200
        users.write_text("one:open sesame")
        assert get(connection, Authorization=basic("one", "newer"))[0] == 200
    assert "metrics keep the last good files" in caplog.text


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "cannot be read"),
        ("# nobody\n", "names no user"),
        ("one:secret\n", "line 1, is no USER:HASH with a hash of bcrypt"),
        ("one:{SHA}2jmj7l5rSw0yVb/vlWAYkK/YBwk=\n", "line 1, is no USER:HASH"),
        (":" + "$2b$04$" + "a" * 53, "line 1, is no USER:HASH"),
    ],
)
def test_a_wrong_file_of_users_is_said(tmp_path: Path, text: str | None, sentence: str) -> None:
    users = tmp_path / "users"
    if text is not None:
        users.write_text(text)
    with (
        pytest.raises(PublishError, match=re.escape(sentence)),
        serving(config(tmp_path, metrics_basic_auth_file=str(users))),
    ):
        pass


# -- certificates ------------------------------------------------------------


def certificate(folder: Path, name: str) -> dict[str, str]:
    """A new certificate of its own for 127.0.0.1, and the settings that name it."""
    paths = folder / f"{name}.crt", folder / f"{name}.key"
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not here: it makes the certificates")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", f"/CN={name}"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-out", str(paths[0]), "-keyout", str(paths[1])]
    subprocess.run(command, check=True, capture_output=True)
    return {"metrics_tls_certificate": str(paths[0]), "metrics_tls_key": str(paths[1])}


def scraped_over_tls(address: str, trusted: str) -> int:
    context = ssl.create_default_context(cafile=trusted)
    connection = http.client.HTTPSConnection(address, timeout=30, context=context)
    try:
        return get(connection)[0]
    finally:
        connection.close()


def test_a_renewed_certificate_holds_from_the_next_connection_on(tmp_path: Path) -> None:
    files = certificate(tmp_path, "first")
    settings = config(tmp_path, **files)
    with serve_metrics(settings, lambda: SNAPSHOT):
        trusted = str(tmp_path / "trusted")
        Path(trusted).write_bytes(Path(files["metrics_tls_certificate"]).read_bytes())
        assert scraped_over_tls(settings.metrics_address, trusted) == 200
        renewed = certificate(tmp_path, "second")
        for name in files:
            os.replace(renewed[name], files[name])
        with pytest.raises(ssl.SSLCertVerificationError):
            scraped_over_tls(settings.metrics_address, trusted)
        now = files["metrics_tls_certificate"]
        assert scraped_over_tls(settings.metrics_address, now) == 200


def test_who_speaks_no_tls_is_turned_away_and_the_next_is_served(tmp_path: Path) -> None:
    files = certificate(tmp_path, "node")
    settings = config(tmp_path, **files)
    with serve_metrics(settings, lambda: SNAPSHOT):
        plain = http.client.HTTPConnection(settings.metrics_address, timeout=30)
        with pytest.raises((http.client.HTTPException, OSError)):
            get(plain)
        plain.close()
        assert scraped_over_tls(settings.metrics_address, files["metrics_tls_certificate"]) == 200


def test_wrong_certificates_are_said(tmp_path: Path) -> None:
    one, other = certificate(tmp_path, "one"), certificate(tmp_path, "other")
    empty = tmp_path / "empty"
    empty.touch()
    for settings, sentence in (
        ({"metrics_tls_key": one["metrics_tls_key"]}, "belong together: set both, or neither"),
        (one | {"metrics_tls_key": str(tmp_path / "no")}, "cannot be read: No such file"),
        (one | {"metrics_tls_key": other["metrics_tls_key"]}, "KEY_VALUES_MISMATCH"),
        (one | {"metrics_tls_certificate": str(empty)}, "are no certificate and its key in PEM"),
    ):
        with (
            pytest.raises(PublishError, match=re.escape(sentence)),
            serve_metrics(config(tmp_path, **settings), lambda: SNAPSHOT),
        ):
            pass


def test_the_server_ends_though_scrapers_are_connected_and_its_address_is_free(
    tmp_path: Path,
) -> None:
    settings = config(tmp_path)
    for _ in range(2):
        with serving(settings) as connection:
            assert get(connection)[0] == 200
