"""How many requests one client may make: token buckets, by address and by signer.

Refused is what comes before anything was done, so the same request may come again. The memory of
it is bounded: of many clients those are forgotten that were quiet longest, and begin anew with a
full bucket. An address is that of the connection, or what a proxy says that the settings trust; an
IPv6 host has a whole /64.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from omnilytics.foundation.errors import OmniLyticsError

MOST_CLIENTS = 10_000


class TooManyRequestsError(OmniLyticsError):
    """More requests of one client than the server takes; the same request succeeds later."""

    code = "rate-limit"
    exit_code = 7
    by = "address"
    """What the requests were counted by: address or signer."""


class RateLimit:
    """A token bucket for each client; many threads may use it."""

    def __init__(
        self, per_second: float, burst: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Allow `burst` requests at once and `per_second` in the long run."""
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, client: str, by: str) -> None:
        """Count one request.

        Raises:
            TooManyRequestsError: One too many; says when the next one may come.
        """
        with self._lock:
            now = self._clock()
            tokens, since = self._buckets.pop(client, (float(self._burst), now))
            tokens = min(float(self._burst), tokens + (now - since) * self._per_second)
            allowed = tokens >= 1
            self._buckets[client] = (tokens - allowed, now)
            if len(self._buckets) > MOST_CLIENTS:
                self._buckets.popitem(last=False)
        if not allowed:
            wait = math.ceil((1 - tokens) / self._per_second)
            error = TooManyRequestsError(
                f"too many requests of one {by}",
                want=f"<= {self._per_second:g} a second",
                hint="come again after Retry-After",
                retry_after_seconds=max(1, wait),
            )
            error.by = by
            raise error


def network_of(host: str) -> str:
    """Return what counts as one client: an IPv4 address, or the /64 that one IPv6 host has."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if address.version == 4:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ip_network((address, 64), strict=False))


@dataclass(frozen=True)
class Limits:
    """The limits of one server."""

    by_address: RateLimit
    by_signer: RateLimit
    """Of owners, whose packages are the largest work: by the account that signed."""

    @classmethod
    def none(cls) -> Limits:
        """Return limits that allow everything: for parties in one process."""
        return cls(NoRateLimit(), NoRateLimit())


class NoRateLimit(RateLimit):
    """Allows everything."""

    def __init__(self) -> None:
        super().__init__(1.0, 1)

    def take(self, client: str, by: str) -> None:
        """Count nothing."""
