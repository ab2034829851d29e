"""The settings of a server process, every one bounded; `omnilytics config init` writes them out.

Secrets are named by path, never given: the key and its password, and the HPKE key. URLs of
nodes may carry an access key, so only their scheme and host are ever shown.
"""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from omnilytics.chain.settings import AccountSection, AddressText, ChainSection, Place
from omnilytics.foundation.amounts import parse_wei
from omnilytics.foundation.errors import UsageError
from omnilytics.foundation.settings import SecretUrl, Section, Settings
from omnilytics.foundation.units import Wei
from omnilytics.wire.task_specification import ETHER_TOKEN

if TYPE_CHECKING:
    from omnilytics.api.limits import Limits
    from omnilytics.protocol.word_jobs import WordExecutor
    from omnilytics.roles.server.policy import ServerPolicy
    from omnilytics.service.connections import ConnectionLimits
    from omnilytics.storage.retention import RetentionPolicy

MAX_ENDPOINT_BYTES = 256
NO_FEE, ONE_ETHER = Wei(0), Wei(10**18)
DAY_SECONDS = 86_400
SHUTDOWN_SECONDS = 15
"""Within this a SIGTERM ends the process, whatever it does."""


def _wei(value: object) -> object:
    if isinstance(value, str):
        try:
            return parse_wei(value)
        except UsageError as error:
            raise ValueError(str(error)) from None
    return value


def _listen(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise ValueError("an address to listen at is HOST:PORT, such as 127.0.0.1:8700")
    return text


def _proxy(text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError:
        raise ValueError("a proxy is an IP address or network, such as 10.0.0.0/8") from None


def _ray_address(text: str) -> str:
    if text != "local" and not re.fullmatch(r"[^\s/:]+:[0-9]{1,5}", text):
        raise ValueError("a Ray cluster is HOST:PORT, or local")
    return text


def _endpoint(text: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#]+[^\s?#]*", text) or text.endswith("/"):
        raise ValueError("an endpoint is an http or https URL without a slash at its end")
    return text


Amount = Annotated[Wei, BeforeValidator(_wei), Field(ge=0, lt=1 << 96)]
Listen = Annotated[str, AfterValidator(_listen), Field(max_length=300)]
Proxy = Annotated[str, AfterValidator(_proxy), Field(max_length=64)]
RayAddress = Annotated[str, AfterValidator(_ray_address), Field(max_length=300)]
Endpoint = Annotated[str, AfterValidator(_endpoint), Field(max_length=MAX_ENDPOINT_BYTES)]


class ServerSection(Section):
    """Where the server keeps its data and is reached."""

    data: Place = Field(
        default=Path("~/.local/share/omnilytics/server"),
        description="Folder of the database and the share files; one server's alone.",
    )
    listen: Listen = Field(
        default="127.0.0.1:8700",
        description="HOST:PORT of the public interface; put TLS before it.",
    )
    endpoint: Endpoint | None = Field(
        default=None, description="URL under which owners and the other servers reach this one."
    )


class KeysSection(AccountSection):
    """Keys, each by the path of its file."""

    hpke_key: Place | None = Field(
        default=None,
        description="File of the key that packages are sealed to (omnilytics server keygen).",
    )


class StorageSection(Section):
    """The database; files of shares and artefacts always lie in server.data."""

    database_url: Annotated[SecretUrl, Field(max_length=2_048)] | None = Field(
        default=None,
        description="postgresql+psycopg://... for PostgreSQL; by default SQLite in server.data.",
    )


class HttpSection(Section):
    """Limits of the public interface."""

    workers: int = Field(default=8, ge=1, le=64, description="Requests worked on at the same time.")
    waiting: int = Field(
        default=128,
        ge=0,
        le=10_000,
        description="Requests that may wait; beyond, 503 with Retry-After.",
    )
    connections: int = Field(
        default=1_000, ge=1, le=100_000, description="Most connections at a time."
    )
    body_seconds: float = Field(
        default=120.0, ge=1, le=3_600, description="Longest time in which a request's body arrives."
    )
    body_bytes: int = Field(
        default=1 << 30,
        ge=1 << 20,
        lt=1 << 40,
        description="Bodies of all requests together that are held in memory; beyond, 503.",
    )
    requests_per_second: float = Field(
        default=200.0,
        ge=1,
        le=1_000_000,
        description="Of one address in the long run; beyond, 429. Behind a proxy all share one.",
    )
    requests_burst: int = Field(
        default=2_000, ge=10, le=10_000_000, description="Of one address at once."
    )
    signer_requests_per_second: float = Field(
        default=50.0,
        ge=1,
        le=1_000_000,
        description="Uploads, or parts of them, of one owner in the long run; beyond, 429.",
    )
    signer_requests_burst: int = Field(
        default=1_000, ge=10, le=10_000_000, description="Of one owner at once."
    )
    connections_per_address: int = Field(
        default=256, ge=1, le=100_000, description="Most connections of one client address."
    )
    header_seconds: float = Field(
        default=10.0, ge=0.1, le=600, description="Longest time in which a header arrives."
    )
    answer_seconds: float = Field(
        default=120.0, ge=1, le=3_600, description="Longest time in which a client reads an answer."
    )
    trusted_proxies: tuple[Proxy, ...] = Field(
        default=(),
        max_length=64,
        description="Addresses or networks of own proxies, whose X-Forwarded-For is believed.",
    )
    keep_alive_seconds: int = Field(
        default=15, ge=1, le=600, description="How long an idle connection is kept."
    )

    def limits(self) -> Limits:
        """Return the limits of requests."""
        from omnilytics.api.limits import Limits, RateLimit

        return Limits(
            RateLimit(self.requests_per_second, self.requests_burst),
            RateLimit(self.signer_requests_per_second, self.signer_requests_burst),
        )

    def connection_limits(self) -> ConnectionLimits:
        """Return the limits of connections."""
        from omnilytics.service.connections import ConnectionLimits

        return ConnectionLimits(
            header_seconds=self.header_seconds,
            answer_seconds=self.answer_seconds,
            per_address=self.connections_per_address,
            exempt=self.trusted_proxies,
        )


class WordsSection(Section):
    """Where the words of a round are computed."""

    workers: int = Field(
        default=0,
        ge=0,
        le=256,
        description="Processes that compute words; 1: the server itself; 0: one less than the "
        "cores it may use.",
    )
    ray_address: RayAddress | None = Field(
        default=None,
        description="HOST:PORT of a Ray cluster that computes words in place of own processes, or "
        "local to start one here; needs omnilytics[ray] and server.data at the same path on all.",
    )

    def executor(self) -> WordExecutor:
        """Return what computes words; its processes start when they are needed.

        Raises:
            ConfigError: The Ray cluster does not answer, or Ray is not installed.
        """
        from omnilytics.protocol.word_jobs import InlineWords
        from omnilytics.service.word_pool import PoolWords, default_workers

        if self.ray_address is not None:
            from omnilytics.service.word_cluster import ClusterWords

            return ClusterWords(self.ray_address, self.workers or default_workers())
        workers = self.workers or default_workers()
        return InlineWords() if workers == 1 else PoolWords(workers)


class RoundsSection(Section):
    """The loop that takes part in rounds."""

    tasks_at_once: int = Field(
        default=8, ge=1, le=64, description="Tasks stepped at the same time."
    )
    recheck_seconds: float = Field(
        default=5.0, ge=0.1, le=600, description="Longest time between two looks at a task."
    )
    back_off_seconds: float = Field(
        default=1.0, ge=0.05, le=60, description="First wait after an error; doubles, with jitter."
    )
    longest_back_off_seconds: float = Field(
        default=60.0, ge=0.05, le=3_600, description="Longest wait after errors."
    )
    lease_seconds: int = Field(
        default=15,
        ge=3,
        le=600,
        description="After that long without a sign of life another process on the same database "
        "takes over a task.",
    )
    void: Literal["never", "when_leaving", "always"] = Field(
        default="when_leaving",
        description="When to pay for ending a round that missed its deadline; only a server that "
        "is leaving needs that, to have its stake back.",
    )


class PriceSection(Section):
    """Least fees in one token."""

    token: AddressText = Field(default=ETHER_TOKEN, description="The zero address is ether.")
    minimum_fee: Amount = Field(default=NO_FEE, description="Per settled round.")
    minimum_opening_fee: Amount = Field(default=NO_FEE, description="Per opened round.")


class PolicySection(Section):
    """What the server agrees to serve when a model owner names it."""

    prices: tuple[PriceSection, ...] = Field(
        default=(PriceSection(),),
        min_length=1,
        max_length=64,
        description="One for each accepted token.",
    )
    most_stake: Amount = Field(
        default=ONE_ETHER, description="The most it risks to lose by the word of n - e servers."
    )
    longest_commitment_seconds: int = Field(
        default=365 * DAY_SECONDS,
        ge=1,
        le=3_650 * DAY_SECONDS,
        description="For how long a task binds it.",
    )

    def policy(self) -> ServerPolicy:
        """Return the policy that consents are decided by."""
        from omnilytics.roles.server.policy import Price, ServerPolicy

        prices = tuple(
            Price(
                token=price.token,
                minimum_fee_wei=price.minimum_fee,
                minimum_opening_fee_wei=price.minimum_opening_fee,
            )
            for price in self.prices
        )
        return ServerPolicy(
            prices=prices,
            most_stake_wei=self.most_stake,
            longest_commitment_seconds=self.longest_commitment_seconds,
        )


class RetentionSection(Section):
    """How long what is kept after a round is over (see the store's retention)."""

    shares_days: float = Field(
        default=7.0, ge=1, le=3_650, description="Packages, from the end of their round."
    )
    evidence_days: float = Field(
        default=365.0, ge=30, le=36_500, description="Records, from the day a task was closed."
    )
    every_seconds: float = Field(
        default=3_600.0, ge=1, le=86_400, description="How often to look for what may go."
    )

    def policy(self) -> RetentionPolicy:
        """Return the policy that garbage is collected by."""
        from omnilytics.storage.retention import RetentionPolicy

        return RetentionPolicy(
            shares_seconds=int(self.shares_days * DAY_SECONDS),
            evidence_seconds=int(self.evidence_days * DAY_SECONDS),
        )


class OperationsSection(Section):
    """Health, metrics, shutdown."""

    listen: Listen | None = Field(
        default="127.0.0.1:8701",
        description="HOST:PORT of /metrics, /healthz and /readyz with reasons; keep it private.",
    )
    least_free_bytes: int = Field(
        default=1 << 30,
        ge=0,
        lt=1 << 62,
        description="Not ready with less than this free on the disk.",
    )
    shutdown_seconds: float = Field(
        default=10.0,
        ge=0.1,
        le=SHUTDOWN_SECONDS - 3,
        description="How long requests and steps under way may take after SIGTERM.",
    )


class LogSection(Section):
    """Logs, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level."
    )
    format: Literal["json", "text"] = Field(default="json", description="json, or text for people.")


def secret_text(url: SecretUrl | None) -> str | None:
    """Return the whole text of a URL that is not to be shown."""
    return None if url is None else url.get_secret_value()


class ServerSettings(Settings):
    """All settings of a server process."""

    server: ServerSection = ServerSection()
    keys: KeysSection = KeysSection()
    chain: ChainSection = ChainSection()
    storage: StorageSection = StorageSection()
    http: HttpSection = HttpSection()
    rounds: RoundsSection = RoundsSection()
    words: WordsSection = WordsSection()
    policy: PolicySection = PolicySection()
    retention: RetentionSection = RetentionSection()
    operations: OperationsSection = OperationsSection()
    log: LogSection = LogSection()
