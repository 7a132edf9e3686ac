"""How an agent comes to own its run directory where another one has it: during an upgrade.

Of two pods of the agent on a node the newer asks the older over the control socket to let go of
everything. The older then stands by, and takes over again should the newer end: a node is not left
without an agent. Shares pace themselves meanwhile.
"""

import asyncio
import logging
import math

from gpuslice_agent.control.client import connect
from gpuslice_agent.errors import AgentAbsentError, AgentRefusedError, ControlError
from gpuslice_agent.run_directory import WAIT_SECONDS, Ownership, RunDirectory, is_served

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.1


async def owned(
    directory: RunDirectory, *, private: bool, instance: str, stop: asyncio.Event
) -> Ownership | None:
    """Waits as long as it has to; None when it is told to stop meanwhile.

    `instance`: the UID of the agent's pod; empty: it takes over from nobody.
    """
    taking = asyncio.create_task(_taken(directory, private=private, instance=instance))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait((taking, stopped), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if taking.done():
        return taking.result()
    taking.cancel()
    await asyncio.wait((taking,))
    return None


async def _taken(directory: RunDirectory, *, private: bool, instance: str) -> Ownership:
    if not instance:
        return await Ownership.taken(directory, private=private)
    if instance in directory.gave_way():
        log.info("standing by: another agent owns %s", directory.path)
        await _let_go_first(directory)
        return await Ownership.taken(
            directory, private=False, wait_seconds=math.inf, while_served=True
        )
    await asyncio.to_thread(_ask, directory, instance)
    return await Ownership.taken(directory, private=False, while_served=True)


async def _let_go_first(directory: RunDirectory) -> None:
    """Leaves the lock to who asked for it; it may have died since, and then nobody comes."""
    for _ in range(int(WAIT_SECONDS / LOOK_SECONDS)):
        if is_served(directory):
            return
        await asyncio.sleep(LOOK_SECONDS)


def _ask(directory: RunDirectory, instance: str) -> None:
    """ControlError: an agent is there that does not let go."""
    try:
        with connect(directory) as client:
            client.hand_over(instance)
    except (AgentAbsentError, AgentRefusedError):
        return  # none is there, or it is ending by itself
    except ControlError as error:
        log.error("agent does not hand over reason=%s", error)
        raise
    log.info("agent asked to hand over directory=%s", directory.path)
