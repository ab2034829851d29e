"""The one exception tree: a stable code, what was got and wanted, and the command that fixes it.

Every error that a user, a peer, a chain or a file can cause is an `OmniLyticsError`. Its `code` is
stable (it travels in problem+json and `--json` output), its `exit_code` is what the command line
returns. Messages never contain secrets: no seed, blind, share or key is ever passed to an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class OmniLyticsError(Exception):
    """Base of all errors with a stable code.

    Args:
        message: What is wrong, in one sentence.
        got: The offending value, safe to show.
        want: What would have been right.
        hint: What to do, ideally the command that fixes it.
        **ids: Identifiers that locate the error (task, round, owner, tensor, ...).
    """

    code: ClassVar[str] = "internal"
    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        message: str,
        *,
        got: object = None,
        want: object = None,
        hint: str | None = None,
        **ids: object,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.got = got
        self.want = want
        self.hint = hint
        self.ids: Mapping[str, object] = ids

    def __str__(self) -> str:
        parts = [self.message]
        if self.got is not None:
            parts.append(f"got {self.got}")
        if self.want is not None:
            parts.append(f"want {self.want}")
        if self.ids:
            parts.append(", ".join(f"{name} {value}" for name, value in self.ids.items()))
        return "; ".join(parts)

    def as_dict(self) -> dict[str, object]:
        """The error as plain JSON values, for problem+json and `--json`."""
        fields: dict[str, object] = {"code": self.code, "message": self.message}
        if self.got is not None:
            fields["got"] = str(self.got)
        if self.want is not None:
            fields["want"] = str(self.want)
        if self.hint is not None:
            fields["hint"] = self.hint
        fields.update({name: str(value) for name, value in self.ids.items()})
        return fields


class UsageError(OmniLyticsError):
    """Options or arguments that cannot work together."""

    code = "usage"
    exit_code = 2


class ConfigError(OmniLyticsError):
    """A setting, a file or a data set that is missing or wrong."""

    code = "config"
    exit_code = 3


class KeyMaterialError(OmniLyticsError):
    """A key that is missing, malformed or not the one needed."""

    code = "key"
    exit_code = 4


class FundsError(OmniLyticsError):
    """An account that cannot pay for what it was asked to do."""

    code = "funds"
    exit_code = 5


class ChainError(OmniLyticsError):
    """A chain that does not answer, is another one, or refused a transaction."""

    code = "chain"
    exit_code = 6


class PeerError(OmniLyticsError):
    """A server or client that does not answer or answers nonsense."""

    code = "peer"
    exit_code = 7
    passes = False
    """Whether another attempt may mend it."""
    retry_after_seconds = 0
    """When, where the peer said so."""

    def passing(self, retry_after_seconds: int = 0) -> PeerError:
        """Return this error as one that another attempt may mend."""
        self.passes, self.retry_after_seconds = True, retry_after_seconds
        return self


class VerificationError(OmniLyticsError):
    """Something from outside that failed a check of the protocol."""

    code = "verification"
    exit_code = 8


class MalformedError(VerificationError):
    """Bytes or fields that do not have the form that wire.md gives them."""

    code = "malformed"


class ConflictError(VerificationError):
    """Something that differs from what was taken first and cannot be taken back."""

    code = "conflict"


class ModelError(ConfigError):
    """A model, a loss or a gradient that the market cannot carry."""

    code = "model"


class ResumableTimeoutError(OmniLyticsError):
    """A wait that ended too early; the same command resumes it."""

    code = "timeout"
    exit_code = 9
