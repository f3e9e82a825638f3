"""Wakes whoever watches something when it has changed, inside the server: live streams and the reconciler.

It carries no data: a watcher reads the state again. So a lost or doubled wake-up does no harm, and several of them
before the watcher gets to run are one.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Changes:
    """Topics are names such as `deployment/ID`. All methods belong to the event loop's thread."""

    def __init__(self) -> None:
        self._watchers: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def publish(self, *topics: str) -> None:
        for topic in topics:
            for watcher in self._watchers.get(topic, ()):
                watcher.set()

    @contextmanager
    def watch(self, *topics: str) -> Iterator[asyncio.Event]:
        """An event that is set by every change of one of the topics; the watcher clears it before it reads."""
        changed = asyncio.Event()
        for topic in topics:
            self._watchers[topic].add(changed)
        try:
            yield changed
        finally:
            for topic in topics:
                self._watchers[topic].discard(changed)
                if not self._watchers[topic]:
                    del self._watchers[topic]


async def any_set(*events: asyncio.Event) -> None:
    """Until one of them is set."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waiting:
            one.cancel()


def agent_topic(organization: str, agent: str) -> str:
    return f"agent/{organization}/{agent}"


def deployment_topic(deployment: str) -> str:
    return f"deployment/{deployment}"


def run_topic(run: str) -> str:
    return f"run/{run}"
