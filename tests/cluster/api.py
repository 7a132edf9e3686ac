"""The API server as the tests ask it: plain objects, with all rights."""

import base64
import contextlib
import http.client
import json
import ssl
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Object = dict[str, Any]

CORE = "/api/v1"
RESOURCE = "/apis/resource.k8s.io/v1"
KINDS = {
    "namespaces": CORE,
    "nodes": CORE,
    "pods": CORE,
    "events": CORE,
    "serviceaccounts": CORE,
    "resourceclaims": RESOURCE,
    "resourceclaimtemplates": RESOURCE,
    "resourceslices": RESOURCE,
    "deviceclasses": RESOURCE,
    "daemonsets": "/apis/apps/v1",
    "deployments": "/apis/apps/v1",
}


class Refused(Exception):
    """The API server's answer is an error; `status` is HTTP's."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(f"{status}: {sentence}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Api:
    kubeconfig: Path

    def get(self, kind: str, name: str, namespace: str = "") -> Object | None:
        """None if there is none."""
        try:
            return self.request("GET", f"{_path(kind, namespace)}/{name}")
        except Refused as error:
            if error.status == http.client.NOT_FOUND:
                return None
            raise

    def list(self, kind: str, namespace: str = "", **selectors: str) -> list[Object]:
        """`selectors` as the API has them: labelSelector, fieldSelector."""
        query = f"?{urllib.parse.urlencode(selectors)}" if selectors else ""
        items: list[Object] = self.request("GET", f"{_path(kind, namespace)}{query}")["items"]
        return items

    def create(self, kind: str, content: Object, namespace: str = "") -> Object:
        return self.request("POST", _path(kind, namespace), content)

    def delete(self, kind: str, name: str, namespace: str = "", grace: int | None = None) -> None:
        """`grace` 0 is what kubectl calls --force."""
        options = {} if grace is None else {"gracePeriodSeconds": grace}
        self.request("DELETE", f"{_path(kind, namespace)}/{name}", options)

    def delete_all(self, kind: str, namespace: str, grace: int) -> None:
        self.request("DELETE", _path(kind, namespace), {"gracePeriodSeconds": grace})

    def patch(self, kind: str, name: str, content: Object, namespace: str = "") -> Object:
        """A merge patch."""
        path = f"{_path(kind, namespace)}/{name}"
        return self.request("PATCH", path, content, "application/merge-patch+json")

    def log(self, namespace: str, pod: str, **selectors: str) -> str:
        """Nothing before the container has started. `selectors`: container, previous.

        Until then the kubelet refuses, or has not even heard of the pod.
        """
        query = urllib.parse.urlencode(selectors)
        try:
            return self._send("GET", f"{_path('pods', namespace)}/{pod}/log?{query}").decode()
        except Refused as error:
            if error.status in (http.client.BAD_REQUEST, http.client.NOT_FOUND):
                return ""
            raise

    def request(
        self, method: str, path: str, content: Object | None = None, kind: str = "application/json"
    ) -> Object:
        answer: Object = json.loads(self._send(method, path, content, kind))
        return answer

    def _send(
        self, method: str, path: str, content: Object | None = None, kind: str = "application/json"
    ) -> bytes:
        server, context, token = self._access()
        connection = http.client.HTTPSConnection(server, context=context, timeout=30)
        with contextlib.closing(connection):
            connection.request(
                method,
                path,
                json.dumps(content).encode() if content is not None else None,
                {"Authorization": f"Bearer {token}", "Content-Type": kind},
            )
            answer = connection.getresponse()
            body = answer.read()
        if answer.status >= http.client.BAD_REQUEST:
            raise Refused(answer.status, json.loads(body).get("message", ""))
        return body

    def _access(self) -> tuple[str, ssl.SSLContext, str]:
        config = json.loads(self.kubeconfig.read_text())
        (cluster,), (user,) = config["clusters"], config["users"]
        authority = base64.b64decode(cluster["cluster"]["certificate-authority-data"]).decode()
        server = str(cluster["cluster"]["server"]).removeprefix("https://")
        return server, ssl.create_default_context(cadata=authority), user["user"]["token"]


def _path(kind: str, namespace: str) -> str:
    inside = f"/namespaces/{namespace}" if namespace else ""
    return f"{KINDS[kind]}{inside}/{kind}"
