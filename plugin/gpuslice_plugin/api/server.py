"""Requests to the API server; lightkube knows the configuration, certificates and tokens."""

from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import contextmanager
from enum import StrEnum

import httpx2
import msgspec
from lightkube.config.client_adapter import AsyncClient, ConnectionParams
from lightkube.config.kubeconfig import KubeConfig
from lightkube.core.exceptions import ConfigError as LightkubeConfigError

from gpuslice_agent.errors import ConfigError
from gpuslice_plugin.api.objects import Object
from gpuslice_plugin.errors import ApiError

FIELD_MANAGER = "gpuslice"
REQUEST_SECONDS = 10.0
# The server sends a bookmark about once a minute: a watch that hears nothing for longer is dead.
SILENCE_SECONDS = 150.0


class PatchKind(StrEnum):
    JSON = "application/json-patch+json"
    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"
    APPLY = "application/apply-patch+yaml"


class ApiServer:
    """Paths are the server's: /api/v1/nodes/NAME, /apis/GROUP/VERSION/namespaces/N/PLURAL/NAME.

    Every failure is an ApiError.
    """

    def __init__(self, config: KubeConfig) -> None:
        single = config.get()
        assert single is not None  # only with a default of None is there none
        # Without the environment: a proxy set for a program's way out is none to this server.
        parameters = ConnectionParams(httpx2.Timeout(REQUEST_SECONDS), trust_env=False)
        self._client: httpx2.AsyncClient = AsyncClient(single, parameters)

    @classmethod
    def configured(cls, kubeconfig: str) -> "ApiServer":
        """From the file, or, where it is empty, as the pod that we are."""
        place = f"The kubeconfig {kubeconfig}" if kubeconfig else "The service account"
        try:
            if kubeconfig:
                return cls(KubeConfig.from_file(kubeconfig))
            return cls(KubeConfig.from_service_account())
        except (LightkubeConfigError, OSError) as error:
            raise ConfigError(
                f"{place} cannot be used: {error}; outside a pod, set kubeconfig to a file."
            ) from error
        except Exception as error:  # lightkube trusts the file's shape, and fails anywhere
            raise ConfigError(f"{place} cannot be used: it is wrong at {error}.") from error

    async def close(self) -> None:
        await self._client.aclose()

    async def get(self, path: str, **parameters: str) -> Object:
        """An object, or a whole collection with its `items`."""
        return await self._request("GET", path, parameters=parameters)

    async def create(self, path: str, body: Object, *, dry_run: bool = False) -> Object:
        """`path` is the collection's; the answer is the object as the server (would) keep it."""
        parameters = {"fieldManager": FIELD_MANAGER} | ({"dryRun": "All"} if dry_run else {})
        return await self._request("POST", path, body, parameters)

    async def update(self, path: str, body: Object) -> Object:
        """Replaces the object, if its resourceVersion is still the one in `body`."""
        return await self._request("PUT", path, body, {"fieldManager": FIELD_MANAGER})

    async def patch(
        self, path: str, body: Object | list[Object], kind: PatchKind = PatchKind.MERGE
    ) -> Object:
        parameters = {"fieldManager": FIELD_MANAGER}
        if kind is PatchKind.APPLY:
            parameters["force"] = "true"
        return await self._request("PATCH", path, body, parameters, {"Content-Type": kind})

    async def delete(self, path: str, preconditions: Mapping[str, str] | None = None) -> Object:
        """`preconditions`: the uid and the resourceVersion that the object must have."""
        body = {"preconditions": dict(preconditions)} if preconditions else None
        return await self._request("DELETE", path, body)

    async def watch(self, path: str, **parameters: str) -> AsyncGenerator[Object]:
        """The events of a collection, {"type": …, "object": …}, until the server ends them."""
        timeout = httpx2.Timeout(REQUEST_SECONDS, read=SILENCE_SECONDS)
        parameters = {"watch": "true", **parameters}
        with _translated("GET", path):
            request = self._client.build_request("GET", path, params=parameters, timeout=timeout)
            response = await self._client.send(request, stream=True)
            try:
                if response.is_error:
                    await response.aread()
                    raise _refusal("GET", path, response)
                async for line in response.aiter_lines():
                    yield msgspec.json.decode(line)
            finally:
                await response.aclose()

    async def _request(
        self,
        method: str,
        path: str,
        body: object = None,
        parameters: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Object:
        with _translated(method, path):
            response = await self._client.request(
                method,
                path,
                params=dict(parameters or {}),
                content=None if body is None else msgspec.json.encode(body),
                headers={"Content-Type": "application/json", **(headers or {})},
            )
            if response.is_error:
                raise _refusal(method, path, response)
            answer: Object = msgspec.json.decode(response.content)
            return answer


@contextmanager
def _translated(method: str, path: str) -> Generator[None]:
    try:
        yield
    except httpx2.HTTPError as error:
        reason = str(error) or type(error).__name__
        raise ApiError(f"The API server was not reached for {method} {path}: {reason}.") from error
    except (LightkubeConfigError, OSError) as error:  # the file of the token is gone
        raise ApiError(f"The API server cannot be asked for {method} {path}: {error}.") from error
    except msgspec.DecodeError as error:
        raise ApiError(
            f"The API server's answer to {method} {path} is no JSON: {error}."
        ) from error


def refused(method: str, path: str, status: Object, retry_after: float = 0.0) -> ApiError:
    """From a Status object, as the server sends it in an answer or as the event of a watch."""
    code = int(status.get("code") or 0)
    message = str(status.get("message") or status.get("reason") or "no reason given").rstrip(".")
    return ApiError(
        f"The API server refused {method} {path}: {message} (status {code}).", code, retry_after
    )


def _refusal(method: str, path: str, response: httpx2.Response) -> ApiError:
    try:
        status = msgspec.json.decode(response.content, type=Object)
    except msgspec.DecodeError:
        status = {"message": response.text.strip()[:200]}  # a proxy's page, say
    status = {**status, "code": response.status_code}
    seconds = response.headers.get("Retry-After", "")
    return refused(method, path, status, float(seconds) if seconds.isdecimal() else 0.0)
