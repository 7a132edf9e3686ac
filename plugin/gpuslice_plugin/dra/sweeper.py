"""Ends what was forgotten: shares and CDI files of claims that the cluster no longer has."""

import asyncio
import logging

from gpuslice_plugin.api import ApiServer, part
from gpuslice_plugin.dra.claims import ClaimReference
from gpuslice_plugin.dra.names import claim_path
from gpuslice_plugin.dra.prepare import Claims
from gpuslice_plugin.errors import ApiError

log = logging.getLogger(__name__)

# The kubelet unprepares what it knows of, however late: this is for what it has lost too.
INTERVAL_SECONDS = 600.0


async def sweep(server: ApiServer, claims: Claims) -> None:
    """Leaves alone whatever the API server does not speak of clearly."""
    for reference in claims.held().keys() | claims.administering():
        try:
            is_over = await _is_over(server, reference)
        except ApiError as error:
            log.warning("claim not looked up claim=%s reason=%s", reference, error)
            continue
        if is_over:
            log.warning("stale claim ended claim=%s uid=%s", reference, reference.uid)
            await claims.unprepare(reference)


async def keep_sweeping(server: ApiServer, claims: Claims) -> None:
    while True:
        await sweep(server, claims)
        await asyncio.sleep(INTERVAL_SECONDS)


async def _is_over(server: ApiServer, reference: ClaimReference) -> bool:
    try:
        claim = await server.get(claim_path(reference.namespace, reference.name))
    except ApiError as error:
        if error.is_absent:
            return True
        raise
    is_another = claim["metadata"]["uid"] != reference.uid
    return is_another or not part(part(claim, "status"), "allocation")
