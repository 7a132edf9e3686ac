"""The certificate that /metrics is served with; a renewed one holds from the next connection on."""

import ssl
from pathlib import Path

from gpuslice_agent.errors import PublishError
from gpuslice_agent.publish.metrics.fresh import Fresh


def fresh_context(certificate: str, key: str) -> Fresh[ssl.SSLContext] | None:
    """None where neither is set. Both are PEM files; the certificate may be a chain."""
    if not certificate and not key:
        return None
    if not certificate or not key:
        raise PublishError(
            "metrics_tls_certificate and metrics_tls_key belong together: set both, or neither."
        )
    paths = Path(certificate), Path(key)
    return Fresh(paths, lambda: _context(*paths))


def _context(certificate: Path, key: Path) -> ssl.SSLContext:
    for path in (certificate, key):
        try:
            path.read_bytes()
        except OSError as error:
            raise PublishError(
                f"{path}, which /metrics is to be served with, cannot be read: {error.strerror}."
            ) from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # A key with a passphrase would be asked for on a terminal: nobody is there.
        context.load_cert_chain(certificate, key, password=lambda: "")
    except ssl.SSLError as error:
        raise PublishError(
            f"{certificate} and {key} are no certificate and its key in PEM without a passphrase "
            f"({error.reason or error}): set metrics_tls_certificate and metrics_tls_key to a pair."
        ) from error
    return context
