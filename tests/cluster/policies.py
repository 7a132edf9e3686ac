"""The policies of deploy/policies, and pods that are only tried on them."""

from collections.abc import Callable, Iterator

from gpuslice_plugin.device_plugin.asks import Words, parse, words
from gpuslice_plugin.quantity import parse as quantity

from . import tenants
from .api import Object, Refused
from .cluster import Cluster, wait
from .node import REPOSITORY

POLICIES = REPOSITORY / "deploy/policies"
WRITING = ("1.36",)  # those with MutatingAdmissionPolicy
ANNOTATION = "asked.gpuslice.io/main"
RIGHT = ["gpucores=50,gpumem=3000", "gpucores=200", "gpu=1,gpumem=3000", "gpu=2,gpucores=200"]
WRONG = ["gpu=2", "gpu=2,gpumem=3000", "gpumem=3000", "gpu=3,gpucores=10,gpumem-percentage=20"]


def applied(cluster: Cluster, folder: str, works: Callable[[], bool]) -> Iterator[Cluster]:
    chosen = f"--kustomize={POLICIES / folder}"
    cluster.kubectl("apply", chosen)

    def holds() -> bool:
        try:
            return works()
        except Refused:  # by a policy that was there before and is not quite gone
            return False

    wait("the policy to be in force", holds)
    yield cluster
    cluster.kubectl("delete", chosen)


def install(cluster: Cluster, kube: str) -> None:
    """The one that a cluster of this version has a use for, in force."""
    folder = POLICIES if kube in WRITING else POLICIES / "checked"
    cluster.kubectl("apply", "--server-side", f"--kustomize={folder}")

    def in_force() -> bool:
        try:
            return made(cluster, "gpu=2")[1] != ""
        except Refused:
            return True

    wait("the policy to be in force", in_force)


def asking(text: str) -> Object:
    own = parse(text)
    values = (own.gpu, own.cores, own.memory_mib, own.memory_percent)
    names = ("gpu", "gpucores", "gpumem", "gpumem-percentage")
    limits = {name: value for name, value in zip(names, values, strict=True) if value}
    return tenants.pod("dry", limits=limits)


def dry_run(cluster: Cluster, document: Object) -> Object:
    path = "/api/v1/namespaces/default/pods?dryRun=All"
    return cluster.api.request("POST", path, {"apiVersion": "v1", "kind": "Pod", **document})


def made(cluster: Cluster, text: str, **annotations: str) -> tuple[Words, str]:
    """What the container of a pod asks for when it has passed the policies, and its annotation."""
    document = asking(text)
    document["metadata"]["annotations"] = annotations
    answer = dry_run(cluster, document)
    resources = answer["spec"]["containers"][0]["resources"]
    assert resources["limits"] == resources["requests"]
    limits = {name: quantity(value) for name, value in resources["limits"].items()}
    return words(limits, "nvidia.com"), answer["metadata"].get("annotations", {}).get(
        ANNOTATION, ""
    )


def refusal(cluster: Cluster, text: str) -> str:
    try:
        dry_run(cluster, asking(text))
    except Refused as error:
        return str(error)
    return ""
