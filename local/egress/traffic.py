"""What is counted of the traffic of one instance, by whichever way it leaves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Traffic:
    """What one instance sent and received in bytes, its connections, and how often it was refused.

    Of frames every byte counts, also those of their heads.
    """

    sent: int = 0
    received: int = 0
    connections: int = 0
    refused: int = 0
