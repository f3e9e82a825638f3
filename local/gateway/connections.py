"""How many connections there are, in all and of each address, those in a TLS handshake among them."""

from __future__ import annotations


class Connections:
    """`each`: what one address may have open; 0 is no limit. `at_most`: all together."""

    def __init__(self, *, each: int, at_most: int) -> None:
        self._each = each
        self._at_most = at_most
        self._open = 0
        self._by_address: dict[str, int] = {}

    def enter(self, address: str | None) -> bool:
        """Count one more, if there is room for it. `address` is None for a caller without a limit of its own."""
        if self._open >= self._at_most:
            return False
        if address is not None and self._each:
            number = self._by_address.get(address, 0)
            if number >= self._each:
                return False
            self._by_address[address] = number + 1
        self._open += 1
        return True

    def leave(self, address: str | None) -> None:
        """One that had entered has ended."""
        self._open -= 1
        if address is None or not self._each:
            return
        number = self._by_address[address] - 1
        if number:
            self._by_address[address] = number
        else:
            del self._by_address[address]
