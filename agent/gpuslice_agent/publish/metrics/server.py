"""/metrics over HTTP or HTTPS: it hands out what Pages has in memory."""

import socket
import ssl
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

from gpuslice_agent.errors import PublishError
from gpuslice_agent.publish.metrics.fresh import Fresh
from gpuslice_agent.publish.metrics.negotiation import format_of, takes_gzip
from gpuslice_agent.publish.metrics.page import Pages

# Scrapers are few: whoever opens more than that is turned away.
CONNECTIONS_MAX = 64
# Longer than the usual time between two scrapes, which come over the same connection.
IDLE_SECONDS = 75.0


class Admission(Protocol):
    def admit(self, authorization: str) -> bool: ...


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "gpuslice", ""
    timeout = IDLE_SECONDS
    # Head and body are two writes: the second would wait for the first one's acknowledgement.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/healthz":
            # For the kubelet, which has no password.
            self._answer(HTTPStatus.OK, b"ok\n", {"Content-Type": "text/plain"})
        elif not self._is_admitted():
            challenge = {"WWW-Authenticate": 'Basic realm="gpuslice", charset="UTF-8"'}
            self._answer(HTTPStatus.UNAUTHORIZED, b"A user and a password, please.\n", challenge)
        elif path in ("/", "/metrics"):
            self._send_page()
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"There is only /metrics.\n", {})

    do_HEAD = do_GET

    @property
    def _serving(self) -> "_Server":
        assert isinstance(self.server, _Server)
        return self.server

    def _is_admitted(self) -> bool:
        admission = self._serving.admission
        return admission is None or admission.admit(self.headers.get("Authorization", ""))

    def _send_page(self) -> None:
        form = format_of(self.headers.get("Accept", ""))
        gzipped = takes_gzip(self.headers.get("Accept-Encoding", ""))
        headers = {"Content-Type": form.value, "Vary": "Accept, Accept-Encoding"}
        if gzipped:
            headers["Content-Encoding"] = "gzip"
        self._answer(HTTPStatus.OK, self._serving.pages.body(form, gzipped), headers)

    def _answer(self, status: HTTPStatus, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """A scrape is nothing to log."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # socketserver's 5 would have the sixth that comes at once try again seconds later.
    request_queue_size = CONNECTIONS_MAX

    def __init__(
        self,
        family: socket.AddressFamily,
        address: tuple[str, int],
        pages: Pages,
        admission: Admission | None,
        tls: Fresh[ssl.SSLContext] | None,
    ) -> None:
        self.address_family = family
        self.pages = pages
        self.admission = admission
        self._tls = tls
        self._room = threading.BoundedSemaphore(CONNECTIONS_MAX)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the connection's own thread: a slow handshake keeps nobody else waiting."""
        if self._tls is None:
            super().finish_request(request, client_address)
            return
        request.settimeout(IDLE_SECONDS)
        with self._tls.get().wrap_socket(request, server_side=True) as wrapped:
            super().finish_request(wrapped, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who breaks a connection off, or speaks no TLS, is told nothing, and nor is the log."""


@contextmanager
def served(
    address: str, pages: Pages, admission: Admission | None, tls: Fresh[ssl.SSLContext] | None
) -> Generator[None]:
    """`address` is HOST:PORT; an empty HOST is every address of this one."""
    host, _, port = address.rpartition(":")
    try:
        family, *_, place = socket.getaddrinfo(
            host.strip("[]") or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        server = _Server(family, (str(place[0]), int(place[1])), pages, admission, tls)
    except (OSError, OverflowError) as error:
        raise PublishError(
            f"/metrics cannot be served on {address} ({error}): set another metrics_address, "
            "or an empty one for none."
        ) from error
    writer = threading.Thread(target=pages.keep_fresh, name="metrics page", daemon=True)
    answering = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    writer.start()
    answering.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        pages.close()
        answering.join()
        writer.join()
