"""How long the gateway waits before it starts an instance again of a revision that failed."""

from __future__ import annotations

from local.gateway.revisions import FIRST_PAUSE, LONGEST_PAUSE, SOON, ServedRevision
from orchestrator_runtime.contract.errors import AgentError
from tests.integration.gateway.world import World, create_world, request, until

BROKEN = AgentError("no module named x", code="entrypoint_not_importable")


def the_revision(world: World) -> ServedRevision:
    [revision] = world.gateway.revisions.values()
    return revision


async def attempts(world: World) -> int:
    """How many starts a call causes, which gets no answer."""
    before = world.supervisor.attempts
    assert (await world.call("/agents/echo")).json()["code"] == "instance_start_failed"
    return world.supervisor.attempts - before


async def test_the_pause_after_a_failed_start_doubles_up_to_a_minute() -> None:
    async with create_world() as world:
        world.supervisor.fail_with = BROKEN
        assert await attempts(world) == 1
        for pause in (FIRST_PAUSE, 1, 2, 4, 8, 16, 32, LONGEST_PAUSE, LONGEST_PAUSE):
            world.clock.advance(pause * 0.99)
            assert await attempts(world) == 0, f"it waits longer than {pause * 0.99} s"
            world.clock.advance(pause * 0.02)
            assert await attempts(world) == 1, f"it waits no longer than {pause * 1.01} s"


async def test_an_answered_call_makes_the_next_pause_the_first_again() -> None:
    async with create_world() as world:
        world.supervisor.fail_with = BROKEN
        for _ in range(5):
            assert await attempts(world) == 1
            world.clock.advance(LONGEST_PAUSE)
        world.supervisor.fail_with = None
        assert (await world.call("/agents/echo")).status == 200
        world.clock.advance(SOON)
        world.supervisor.fail_with = BROKEN
        world.supervisor.exit(await world.started())
        await until(lambda: not the_revision(world).ready)
        assert await attempts(world) == 1, "the end of one that has worked is no failed start"
        world.clock.advance(FIRST_PAUSE * 1.01)
        assert await attempts(world) == 1


async def test_an_instance_that_starts_and_ends_soon_without_an_answer_counts_as_a_failed_start() -> None:
    async with create_world() as world:
        server = next(iter(world.server.peers))
        for expected in (1, 2):  # once may be an accident, so the second start comes at once
            await server.call("revision.probe", {"organization": "org-1", "revision": "echo-00001"})
            assert world.supervisor.attempts == expected
            world.supervisor.exit(await world.started())
            await until(lambda: not the_revision(world).ready)
        call = await world.send(request("/agents/echo"))
        await until(lambda: bool(the_revision(world).waiting))
        assert world.supervisor.attempts == 2
        world.pass_time(2)
        assert (await call.answer()).status == 200
        assert world.supervisor.attempts == 3
