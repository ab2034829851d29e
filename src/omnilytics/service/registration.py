"""Whether the chain knows this server under the key and endpoint that it runs with.

A server whose registered HPKE key is another one can open nothing that is sealed to it: owners
would leave their packages elsewhere and it would complain about honest ones.
"""

from __future__ import annotations

from omnilytics.chain.reader import MarketReader
from omnilytics.chain.records import ServerRecord
from omnilytics.foundation.errors import ChainError, KeyMaterialError
from omnilytics.foundation.units import Address, Hash32, show_address


class Registration:
    """Compares the running keys with the chain's record, again and again."""

    def __init__(
        self, market: MarketReader, address: Address, hpke_key: Hash32, endpoint: str | None
    ) -> None:
        self._market = market
        self._address = address
        self._hpke_key = hpke_key
        self._endpoint = endpoint
        self.record: ServerRecord | None = None
        self.problem: str | None = "the registration was not read yet"

    @property
    def has_past(self) -> bool:
        """Whether the server may have answered in a round already: a task has it at stake."""
        return self.record is not None and self.record.active_tasks > 0

    def refresh(self) -> None:
        """Read the record; raises ChainError where the chain does not answer."""
        self.record = find_server(self._market, self._address)
        if self.record is None:
            self.problem = f"{show_address(self._address)} is not registered as a server"
        elif self.record.hpke_key != self._hpke_key:
            self.problem = "another HPKE key is registered than the one that is loaded"
        elif self._endpoint is not None and self.record.endpoint != self._endpoint:
            self.problem = f"another endpoint is registered: {self.record.endpoint}"
        else:
            self.problem = None

    def check_key(self) -> None:
        """Raise KeyMaterialError where the registered HPKE key is not the loaded one."""
        if self.record is not None and self.record.hpke_key != self._hpke_key:
            raise KeyMaterialError(
                "another HPKE key is registered than the one in the file",
                got="0x" + self._hpke_key.hex(),
                want="0x" + self.record.hpke_key.hex(),
                hint="name the right file (keys.hpke_key); for new tasks: "
                "omnilytics server set-profile",
                server=show_address(self._address),
            )


def find_server(market: MarketReader, address: Address) -> ServerRecord | None:
    """Return a server's record, or None where it is not registered."""
    try:
        return market.server(address)
    except ChainError as error:
        if error.message != "server not registered":
            raise
        return None
