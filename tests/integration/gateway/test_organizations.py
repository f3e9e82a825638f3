"""Who calls which agent when there are several organizations, and when a credential ends."""

from __future__ import annotations

from typing import Any

from orchestrator_runtime.contract.wire import Message
from tests.fakes.control_server import create_credential, create_revision, create_route
from tests.integration.gateway.world import World, create_world, until


def others(access: str = "organization", *, organization: str = "org-2") -> dict[str, Any]:
    """The agent `echo` of another organization; its revision is told apart by its number."""
    return create_route(
        organization=organization,
        organization_name="others",
        access=access,
        traffic=[{"revision": "echo-00002", "percent": 100, "tag": None}],
        revisions={"echo-00002": create_revision()},
    )


async def both(world: World, *credentials: dict[str, Any], access: str = "organization", first: str = "public") -> None:
    await world.push(create_route(access=first), others(access), credentials=[create_credential(), *credentials])


async def revision(world: World, path: str = "/agents/echo", **rest: Any) -> str:
    answer = await world.call(path, **rest)
    return answer.headers.get("orchestrator-revision", str(answer.status))


async def test_an_agent_is_that_of_the_caller_s_organization() -> None:
    async with create_world() as world:
        await both(world, create_credential("theirs", organization="org-2"), first="organization")
        assert await revision(world) == "echo-00001"
        assert await revision(world, token="theirs") == "echo-00002"


async def test_without_a_credential_it_is_that_of_the_first_organization_whatever_others_have() -> None:
    async with create_world() as world:
        await both(world, access="public")
        assert await revision(world, token=None) == "echo-00001"
        assert await revision(world, token="nobody's") == "echo-00001"
        await world.push(others("public"))
        assert await revision(world, token=None) == "401"


async def test_a_public_agent_of_another_organization_is_called_by_host_with_or_without_a_credential() -> None:
    async with create_world() as world:
        await both(world, access="public")
        for token in (None, "owner-token"):
            answer = await world.call("/", host="echo.others.localhost", token=token)
            assert answer.headers["orchestrator-revision"] == "echo-00002"
            headers = answer.json()["headers"]
            assert headers["orchestrator-caller"] == "public", "who calls from elsewhere is not theirs to know"
            assert "authorization" not in headers


async def test_a_foreign_agent_is_not_there_whatever_its_access() -> None:
    async with create_world() as world:
        for access in ("organization", "agents"):
            await both(world, access=access)
            answer = await world.call("/", host="echo.others.localhost")
            assert (answer.status, answer.json()["code"]) == (404, "agent_unknown")
            assert "permission" not in answer.json()


async def test_a_grant_lets_one_agent_be_called_and_no_other() -> None:
    async with create_world() as world:
        granted = create_credential("granted", permissions=("agents:read",), agents=["echo"], name="person:p-1")
        await world.push(create_route(), create_route("other"), credentials=[granted])
        answer = await world.call("/agents/echo", token="granted")
        assert answer.json()["headers"]["orchestrator-caller"] == "person:p-1"
        assert (await world.call("/agents/other", token="granted")).status == 403
        await world.push(create_route(access="agents"), credentials=[granted])
        assert (await world.call("/agents/echo", token="granted")).status == 403


async def test_an_expired_credential_is_none() -> None:
    async with create_world() as world:
        ending = create_credential("ending", expires=world.clock.now().timestamp() + 5)
        await world.push(create_route(), credentials=[ending])
        assert (await world.call("/agents/echo", token="ending")).status == 200
        world.clock.advance(5)
        assert (await world.call("/agents/echo", token="ending")).status == 401


async def test_a_credential_that_is_taken_back_opens_nothing_once_the_gateway_says_that_it_knows() -> None:
    async with create_world() as world:
        assert (await world.call("/agents/echo")).status == 200
        [peer] = world.server.peers
        peer.notify("routes", {**world.server.routes, "credentials": []})
        assert await peer.call("routes.applied") == Message()
        assert (await world.call("/agents/echo")).status == 401


async def test_the_server_is_told_which_credentials_were_used() -> None:
    async with create_world() as world:
        for _ in range(2):
            await world.call("/agents/echo")
        world.gateway.decide()
        await until(lambda: bool(world.server.used))
        assert world.server.used == [create_credential()["digest"]]
        world.gateway.decide()
        assert world.server.used == [create_credential()["digest"]]
