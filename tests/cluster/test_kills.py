"""The agent is killed while shares come and go: afterwards everybody agrees all the same."""

import itertools
import os
import random
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from . import tenants
from .agreement import wait_agreed
from .cluster import Cluster, wait
from .node import NodeError

# `GPUSLICE_KILLS=200 pytest tests/cluster/test_kills.py` for the whole of it.
KILLS = int(os.environ.get("GPUSLICE_KILLS", "25"))
DYING_AGENT = str(Path(__file__).with_name("dying_agent.py"))
LINES = 1500  # a start and a few pods
LIFE_SECONDS = 10.0
PODS = 6
# A kubelet whose driver did not answer asks again after up to 90 s.
RETRIED_SECONDS = 200.0


@pytest.mark.usefixtures("shares_of_claims")
@pytest.mark.timeout(120 + 20 * KILLS)
def test_shares_agree_after_kills_at_random_points(
    cluster: Cluster, namespace: str, chance: random.Random
) -> None:
    cluster.agent.kill()
    with coming_and_going(cluster, namespace, random.Random(chance.random())):
        for _ in range(KILLS):
            lines = chance.randrange(LINES)
            agent = cluster.agent.start_as((sys.executable, DYING_AGENT, str(lines)))
            try:
                agent.wait(LIFE_SECONDS)
            except NodeError:
                cluster.agent.kill()
    cluster.agent.start()
    cluster.wait_served()
    cluster.api.delete_all("pods", namespace, grace=1)
    wait("no pod", lambda: not cluster.api.list("pods", namespace), RETRIED_SECONDS)
    assert not wait_agreed(cluster).shares
    # Where they died, for whoever wonders whether that was anywhere of interest.
    killed = re.findall(r"killed before \S+/(\S+):\d+", cluster.agent.process.log.read_text())
    print(Counter(killed).most_common())


@contextmanager
def coming_and_going(cluster: Cluster, namespace: str, chance: random.Random) -> Generator[None]:
    """Pods of both ways, whether or not they ever run."""
    end = threading.Event()
    for name, cores in (("small", 10), ("large", 40)):
        cluster.api.create("resourceclaimtemplates", tenants.template(name, cores, 1000), namespace)

    def come_and_go() -> None:
        for number in itertools.count():
            if end.is_set():
                return
            limits = {"gpucores": chance.choice((10, 40)), "gpumem": 1000}
            template = chance.choice(("small", "large", ""))
            pod = tenants.pod(
                f"p{number}", "tenant", "2", limits={} if template else limits, template=template
            )
            cluster.api.create("pods", pod, namespace)
            if number >= PODS:
                cluster.api.delete("pods", f"p{number - PODS}", namespace, grace=1)
            time.sleep(chance.random() / 2)

    with ThreadPoolExecutor(1) as crowd:
        churn = crowd.submit(come_and_go)
        try:
            yield
        finally:
            end.set()
        churn.result()
