"""Turns the notes that were taken during an incident into a post-mortem without blame.

Two agents: an investigator, who orders what happened and measures it with a tool, and an author, who writes it down.
The members of the input, `service` and `notes`, fill the placeholders of the tasks.
"""

from __future__ import annotations

import os
import re
from datetime import datetime, timedelta

from crewai import LLM, Agent, Crew, Task
from crewai.tools import tool

TIME = re.compile(r"(?:(\d{4}-\d{2}-\d{2})[T ])?(\d{1,2}:\d{2})")


@tool("elapsed")
def elapsed(start: str, end: str) -> str:
    """The time between two moments, written as HH:MM or YYYY-MM-DD HH:MM, in minutes. An end before its start is on
    the next day."""
    first, last = moment(start), moment(end)
    if last < first:
        last += timedelta(days=1)
    minutes = int((last - first).total_seconds() // 60)
    return f"{minutes} minutes ({minutes // 60} h {minutes % 60:02} min)"


def moment(text: str) -> datetime:
    found = TIME.search(text)
    if found is None:
        raise ValueError(f"{text!r} has no time such as 14:05 or 2026-03-01 14:05")
    return datetime.fromisoformat(f"{found[1] or '2000-01-01'} {found[2]:0>5}")


# OPENAI_API_KEY and OPENAI_BASE_URL say where the model is. Any name of a model will do: the provider is given.
llm = LLM(model=os.environ.get("MODEL", "gpt-5-mini"), provider="openai")

investigator = Agent(
    role="Incident investigator",
    goal="Establish what happened, when, and why, from the notes alone",
    backstory="You keep facts and guesses apart, and you look for causes in systems, never in people.",
    llm=llm,
    tools=[elapsed],
)
author = Agent(
    role="Post-mortem author",
    goal="Write a post-mortem that people who were not there understand",
    backstory="You write short, plain sentences and name roles instead of persons.",
    llm=llm,
)
investigate = Task(
    name="investigate",
    description=(
        "These notes were taken during an incident of {service}:\n\n{notes}\n\n"
        "List its events in order of time. Measure with the tool `elapsed` how long it took to detect, to mitigate and "
        "to resolve it. Then name the root cause, what contributed, and what is still unknown."
    ),
    expected_output="A timeline, three durations, causes, and open questions.",
    agent=investigator,
)
write = Task(
    name="write",
    description="Write the post-mortem of the incident of {service} from what the investigator found.",
    expected_output=(
        "Markdown with the sections Summary, Impact, Timeline, Causes, What went well, and Actions; each action with "
        "the role that owns it."
    ),
    agent=author,
    context=[investigate],
)
crew = Crew(name="Post-mortem", agents=[investigator, author], tasks=[investigate, write])
