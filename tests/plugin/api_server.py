"""A small API server over real HTTP: objects, versions, watches, and what goes wrong there.

It knows no types and no rights: those are tested on a real one, in tests/cluster.
"""

import asyncio
import copy
import json
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

from lightkube.config.kubeconfig import KubeConfig
from lightkube.config.models import Cluster, User

from gpuslice_plugin.api import ApiServer

Object = dict[str, Any]


class Refusal(Exception):
    def __init__(self, code: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.code = code
        self.headers = headers


class SmallApiServer:
    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}  # by path
        self.requests: list[tuple[str, str]] = []  # method and path with its query
        self.refusals: list[Refusal] = []  # for the next requests, watches included
        self.keeps: Callable[[Object], Object] = lambda thing: thing  # what it makes of a field
        self._version = 10
        self._events: list[tuple[int, str, str, Object]] = []  # version, path, kind, object
        self._forgotten = 0  # versions up to here are no longer known
        self._happened = asyncio.Event()
        self._watches: set[asyncio.Task[None]] = set()

    @property
    def writes(self) -> list[tuple[str, str]]:
        return [one for one in self.requests if one[0] != "GET"]

    def put(self, path: str, thing: Object) -> Object:
        """As another client would; with a resourceVersion only if it is still that one."""
        old = self.objects.get(path)
        expected = thing.get("metadata", {}).get("resourceVersion")
        if expected and (old is None or old["metadata"]["resourceVersion"] != expected):
            raise Refusal(409, "the object has been modified")
        thing = copy.deepcopy(self.keeps(copy.deepcopy(thing)))
        metadata = thing.setdefault("metadata", {})
        metadata.setdefault("name", path.rsplit("/", 1)[1])
        metadata["uid"] = (
            old["metadata"]["uid"] if old else metadata.get("uid", secrets.token_hex(8))
        )
        self._record("MODIFIED" if old else "ADDED", path, thing)
        return thing

    def remove(self, path: str) -> Object:
        thing = copy.deepcopy(self.objects[path])
        self._record("DELETED", path, thing)
        return thing

    def forget(self) -> None:
        """Compacts: who watches from an older version gets 410 and has to list again."""
        self._version += 1
        self._forgotten = self._version
        self._events.clear()

    def hang_up(self) -> None:
        for watch in tuple(self._watches):
            watch.cancel()

    def _record(self, kind: str, path: str, thing: Object) -> None:
        self._version += 1
        thing["metadata"]["resourceVersion"] = str(self._version)
        if kind == "DELETED":
            del self.objects[path]
        else:
            self.objects[path] = thing
        self._events.append((self._version, path, kind, thing))
        self._happened.set()
        self._happened = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._watches.add(task)
        try:
            while line := await reader.readline():
                method, target, _ = line.decode().split()
                await self._answer(method, target, await _body(reader), writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._watches.discard(task)
            writer.close()

    async def _answer(
        self, method: str, target: str, body: Object, writer: asyncio.StreamWriter
    ) -> None:
        url = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        self.requests.append((method, target))
        try:
            if self.refusals:
                raise self.refusals.pop(0)
            if query.get("watch"):
                await self._watch(url.path, query, writer)
                return
            answer = self._object(method, url.path, query, body)
            _write(writer, 200, answer)
        except Refusal as error:
            status = {"kind": "Status", "code": error.code, "message": str(error)}
            _write(writer, error.code, status, error.headers)
        await writer.drain()

    def _object(self, method: str, path: str, query: dict[str, str], body: Object) -> Object:
        if method == "POST":
            metadata = body["metadata"]
            name = metadata.get("name") or metadata["generateName"] + secrets.token_hex(3)
            if f"{path}/{name}" in self.objects:
                raise Refusal(409, f"{name} already exists")
            metadata["name"] = name
            if query.get("dryRun"):
                return self.keeps(body)
            return self.put(f"{path}/{name}", body)
        place = path.removesuffix("/status")
        if method == "GET" and place not in self.objects and path.rsplit("/", 1)[1].endswith("s"):
            items = [one for at, one in self.objects.items() if self._belongs(at, path, one, query)]
            return {"metadata": {"resourceVersion": str(self._version)}, "items": items}
        if place not in self.objects:
            raise Refusal(404, f"{place.rsplit('/', 1)[1]} not found")
        if method == "GET":
            return self.objects[place]
        if method == "DELETE":
            self._check(place, body.get("preconditions") or {})
            return self.remove(place)
        if method == "PUT":
            return self.put(place, body)
        return self.put(place, _merged(self.objects[place], body))

    def _check(self, path: str, preconditions: Object) -> None:
        metadata = self.objects[path]["metadata"]
        if any(metadata[name] != value for name, value in preconditions.items()):
            raise Refusal(409, "the precondition does not hold")

    def _belongs(self, at: str, collection: str, thing: Object, query: dict[str, str]) -> bool:
        selectors = [one.split("=") for one in query.get("fieldSelector", "").split(",") if one]
        return at.rsplit("/", 1)[0] == collection and all(
            _field(thing, path) == value for path, value in selectors
        )

    async def _watch(self, path: str, query: dict[str, str], writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
        writer.write(b"Transfer-Encoding: chunked\r\n\r\n")
        seen = int(query["resourceVersion"])
        if seen < self._forgotten:
            _chunk(writer, {"type": "ERROR", "object": {"code": 410, "message": "too old"}})
            _chunk(writer, None)
            await writer.drain()
            return
        while True:
            happened = self._happened
            for version, at, kind, thing in self._events:
                if version > seen and self._belongs(at, path, thing, query):
                    _chunk(writer, {"type": kind, "object": thing})
            seen = self._version
            _chunk(writer, _bookmark(seen))
            await writer.drain()
            await happened.wait()


def _bookmark(version: int) -> Object:
    return {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(version)}}}


async def _body(reader: asyncio.StreamReader) -> Object:
    length = 0
    while (header := (await reader.readline()).decode().strip().lower()) != "":
        if header.startswith("content-length:"):
            length = int(header.split(":")[1])
    text = await reader.readexactly(length)
    return json.loads(text) if text else {}


def _write(
    writer: asyncio.StreamWriter, code: int, answer: Object, headers: dict[str, str] | None = None
) -> None:
    text = json.dumps(answer).encode()
    lines = [f"HTTP/1.1 {code} answer", f"Content-Length: {len(text)}"]
    lines += ["Content-Type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in (headers or {}).items()]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + text)


def _chunk(writer: asyncio.StreamWriter, event: Object | None) -> None:
    text = b"" if event is None else json.dumps(event).encode() + b"\n"
    writer.write(f"{len(text):x}\r\n".encode() + text + b"\r\n")


def _field(thing: Any, path: str) -> str:
    for name in path.split("."):
        thing = thing.get(name, {})
    return str(thing)


def _merged(old: Object, patch: Object) -> Object:
    merged = dict(old)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            merged[name] = _merged(merged.get(name) or {}, cast(Object, value))
        else:
            merged[name] = value
    return merged


@asynccontextmanager
async def small_api_server() -> AsyncGenerator[tuple[SmallApiServer, ApiServer]]:
    """The server, and our client to it."""
    small = SmallApiServer()
    server = await asyncio.start_server(small.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    cluster = Cluster(server=f"http://{host}:{port}")
    client = ApiServer(KubeConfig.from_one(cluster=cluster, user=User()))
    try:
        yield small, client
    finally:
        await client.close()
        server.close()
        small.hang_up()
        await asyncio.sleep(0)
