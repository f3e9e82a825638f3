"""The runtime that an agent's instance runs: see `server`, `zygote`, `journal` and `frameworks`.

Agents import `Run` and `Part` from here; they are loaded only then, because the control plane imports the contract
below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator_runtime.frameworks.adapter import Part
    from orchestrator_runtime.run import Run

__all__ = ["Part", "Run"]


def __getattr__(name: str) -> Any:
    if name == "Run":
        from orchestrator_runtime.run import Run  # see above

        return Run
    if name == "Part":
        from orchestrator_runtime.frameworks.adapter import Part

        return Part
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
