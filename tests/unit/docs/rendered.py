"""The parts of the documentation that are made from code: `python -m tests.unit.docs.rendered` writes them anew.

A part stands between two comments, `<!-- begin NAME -->` and `<!-- end NAME -->`; the tests beside this module compare.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from pydantic.fields import FieldInfo

from control_api.settings import PREFIX, Group, Settings
from domain.deployment import (
    BUILD_TRANSITIONS,
    DEPLOYMENT_TRANSITIONS,
    REVISION_TRANSITIONS,
    BuildState,
    DeploymentState,
    RevisionState,
)
from domain.home import HOME_VARIABLE
from domain.roles import TABLE
from orchestrator_runtime.contract.states import (
    ATTEMPT_TRANSITIONS,
    RUN_TRANSITIONS,
    STEP_TRANSITIONS,
    AttemptState,
    RunState,
    StepState,
    WaitReason,
)

REPOSITORY = Path(__file__).resolve().parents[3]
DOCS = REPOSITORY / "docs"

State = TypeVar("State", bound=StrEnum)


def run() -> str:
    return machine(RunState, RUN_TRANSITIONS)


def wait_reasons() -> str:
    return ", ".join(f"`{reason}`" for reason in WaitReason)


def attempt() -> str:
    return machine(AttemptState, ATTEMPT_TRANSITIONS)


def step() -> str:
    return machine(StepState, STEP_TRANSITIONS)


def deployment() -> str:
    return machine(DeploymentState, DEPLOYMENT_TRANSITIONS)


def build() -> str:
    return machine(BuildState, BUILD_TRANSITIONS)


def revision() -> str:
    return machine(RevisionState, REVISION_TRANSITIONS)


def machine(states: type[State], table: Mapping[State, frozenset[State]]) -> str:
    """A state machine as a table of moves, states in the order in which they are declared."""
    rows = (
        (f"`{state}`", ", ".join(f"`{following}`" for following in states if following in table[state]) or "– (end)")
        for state in states
    )
    return markdown_table(("state", "may become"), rows)


def permissions() -> str:
    rows = (
        (f"`{name}`", least.everywhere.value, least.on_agent.value if least.on_agent else "–", least.meaning)
        for name, least in TABLE.items()
    )
    return markdown_table(("permission", "from", "by a grant on one agent from", "what for"), rows)


def settings() -> str:
    return markdown_table(("variable", "default", "meaning"), _settings())


def _settings() -> Iterator[tuple[str, str, str]]:
    for name, field in Settings.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, Group):
            for inner, inner_field in group.model_fields.items():
                yield _setting(f"{PREFIX}{name}_{inner}".upper(), inner_field)
        else:
            yield _setting(f"{PREFIX}{name}".upper(), field)


def _setting(variable: str, field: FieldInfo) -> tuple[str, str, str]:
    default = field.get_default()
    words = "–" if field.is_required() or default in (None, ()) else f"`{default}`"
    if variable == HOME_VARIABLE:
        words = "`.orchestrator` in the checkout"
    return f"`{variable}`", words, (field.description or "").replace("|", "\\|")


def markdown_table(headings: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [headings, tuple("---" for _ in headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


PARTS: Mapping[Path, tuple[Callable[[], str], ...]] = {
    DOCS / "states.md": (run, wait_reasons, attempt, step, deployment, build, revision),
    DOCS / "guides" / "operating.md": (settings,),
    DOCS / "guides" / "organizations.md": (permissions,),
}


def rendered(text: str, parts: tuple[Callable[[], str], ...]) -> str:
    """`text` with each part as the code has it now. Raises `ValueError` if the text has no place for one."""
    for part in parts:
        begin, end = f"<!-- begin {part.__name__} -->\n", f"\n<!-- end {part.__name__} -->"
        pattern = re.compile(f"(?<={re.escape(begin)}).*?(?={re.escape(end)})", re.DOTALL)
        if not pattern.search(text):
            raise ValueError(f"there is no place for {part.__name__}")
        value = part()
        text = pattern.sub(lambda _, value=value: value, text)  # type: ignore[misc]
    return text


def main() -> None:
    for path, parts in PARTS.items():
        path.write_text(rendered(path.read_text(), parts))


if __name__ == "__main__":
    main()
