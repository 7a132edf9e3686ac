"""The client of the API server, against real HTTP."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gpuslice_agent.errors import ConfigError
from gpuslice_plugin.api import ApiServer, Informer
from gpuslice_plugin.errors import ApiError

from .api_server import Refusal, SmallApiServer, small_api_server

SLICES = "/apis/resource.k8s.io/v1/resourceslices"


def a_slice(name: str, node: str = "here") -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"nodeName": node}}


def test_an_object_is_created_read_changed_and_deleted() -> None:
    async def scenario() -> None:
        async with small_api_server() as (_, server):
            made = await server.create(SLICES, a_slice("a"))
            assert (await server.get(f"{SLICES}/a")) == made
            made["spec"]["nodeName"] = "there"
            await server.update(f"{SLICES}/a", made)
            patched = await server.patch(f"{SLICES}/a", {"spec": {"more": 1}})
            assert patched["spec"] == {"nodeName": "there", "more": 1}
            await server.delete(f"{SLICES}/a", {"uid": made["metadata"]["uid"]})
            with pytest.raises(ApiError, match="a not found") as caught:
                await server.get(f"{SLICES}/a")
            assert caught.value.is_absent

    asyncio.run(scenario())


def test_an_update_of_what_somebody_else_changed_is_a_conflict() -> None:
    async def scenario() -> None:
        async with small_api_server() as (small, server):
            made = await server.create(SLICES, a_slice("a"))
            small.put(f"{SLICES}/a", a_slice("a", "there"))
            with pytest.raises(ApiError) as caught:
                await server.update(f"{SLICES}/a", made)
            assert caught.value.is_conflict and caught.value.is_transient

    asyncio.run(scenario())


def test_a_server_that_is_not_there_is_an_error_worth_trying_again(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(
        "{current-context: c, clusters: [{name: c, cluster: {server: 'http://127.0.0.1:9'}}], "
        "contexts: [{name: c, context: {cluster: c, user: u}}], users: [{name: u, user: {}}]}"
    )

    async def scenario() -> None:
        server = ApiServer.configured(str(kubeconfig))
        with pytest.raises(ApiError, match="was not reached for GET /api") as caught:
            await server.get("/api")
        assert caught.value.is_transient
        await server.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("text", ["", "{", "clusters: []", "current-context: c\nclusters: []"])
def test_a_wrong_kubeconfig_is_refused_in_a_sentence(tmp_path: Path, text: str) -> None:
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(text)
    with pytest.raises(ConfigError, match=f"The kubeconfig {kubeconfig} cannot be used"):
        ApiServer.configured(str(kubeconfig))


def test_outside_a_pod_there_is_no_service_account() -> None:
    with pytest.raises(ConfigError, match="set kubeconfig to a file"):
        ApiServer.configured("")


def followed(steps: Callable[[SmallApiServer, Informer], Any], **selectors: str) -> None:
    """Runs the steps while an informer follows the slices."""

    async def scenario() -> None:
        async with small_api_server() as (small, server):
            informer = Informer(server, SLICES, **selectors)
            running = asyncio.create_task(informer.run())
            try:
                await asyncio.wait_for(steps(small, informer), 20)
            finally:
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running

    asyncio.run(scenario())


async def names_become(informer: Informer, names: set[str]) -> None:
    async for objects in informer.changes():
        if {one["metadata"]["name"] for one in objects.values()} == names:
            return


def test_an_informer_knows_what_was_there_and_what_comes_and_goes() -> None:
    async def steps(small: SmallApiServer, informer: Informer) -> None:
        small.put(f"{SLICES}/a", a_slice("a"))
        await names_become(informer, {"a"})
        small.put(f"{SLICES}/b", a_slice("b"))
        await names_become(informer, {"a", "b"})
        small.remove(f"{SLICES}/a")
        await names_become(informer, {"b"})

    followed(steps)


def test_an_informer_sees_only_what_its_selector_names() -> None:
    async def steps(small: SmallApiServer, informer: Informer) -> None:
        small.put(f"{SLICES}/a", a_slice("a", "there"))
        small.put(f"{SLICES}/b", a_slice("b"))
        await names_become(informer, {"b"})

    followed(steps, field_selector="spec.nodeName=here")


def test_an_informer_goes_on_where_a_watch_ended_without_listing_again() -> None:
    async def steps(small: SmallApiServer, informer: Informer) -> None:
        await names_become(informer, set())
        await asyncio.sleep(0.1)
        small.hang_up()
        small.put(f"{SLICES}/a", a_slice("a"))
        await names_become(informer, {"a"})
        assert len([one for one in small.requests if "watch" not in one[1]]) == 1

    followed(steps)


def test_an_informer_lists_again_when_its_version_is_forgotten() -> None:
    async def steps(small: SmallApiServer, informer: Informer) -> None:
        small.put(f"{SLICES}/a", a_slice("a"))
        await names_become(informer, {"a"})
        small.remove(f"{SLICES}/a")
        small.put(f"{SLICES}/b", a_slice("b"))
        small.forget()
        small.hang_up()
        await names_become(informer, {"b"})

    followed(steps)


def test_an_informer_outlives_refusals(caplog: pytest.LogCaptureFixture) -> None:
    async def steps(small: SmallApiServer, informer: Informer) -> None:
        small.refusals += [Refusal(500, "not now"), Refusal(429, "slowly", Retry_After="1")]
        small.put(f"{SLICES}/a", a_slice("a"))
        await names_become(informer, {"a"})

    followed(steps)
    assert "collection not followed path=/apis/resource.k8s.io" in caplog.text
    assert "not now (status 500)" in caplog.text
