"""Structured logs on standard error: one JSON object per line, with the ids of what it is about.

Ids (request, task, round) are bound to the context in which code runs and so reach every line that
it logs, also the lines of libraries. Nothing secret is to be logged in the first place; as a second
fence, values under telling names and raw bytes are replaced, and registered secrets are blanked out
of every line.

Not guaranteed: that a secret is found in another encoding than plain text or hexadecimal.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, MutableMapping
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor

from omnilytics.foundation.errors import OmniLyticsError

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
BLANK = "[secret]"
_SECRET_NAMES = frozenset(
    {"secret", "private_key", "password", "blind", "seed_share", "share", "mnemonic", "keystore"}
)
_MIN_SECRET_CHARACTERS = 6
_QUIET = ("httpx", "httpcore", "urllib3", "web3", "asyncio", "uvicorn")
"""Libraries that tell every call; their URLs may carry access keys."""

_registered: set[str] = set()


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return a logger whose lines carry `name`."""
    return structlog.stdlib.get_logger(name)


def register_secrets(*secrets: str | bytes) -> None:
    """Blank these out of all later lines, bytes in hexadecimal; very short ones are left."""
    for secret in secrets:
        text = secret.hex() if isinstance(secret, bytes) else secret
        if len(text) >= _MIN_SECRET_CHARACTERS:
            _registered.add(text)


def configure_logging(
    *, level: str = "info", as_json: bool = True, stream: TextIO | None = None
) -> None:
    """Send this process's logs, libraries' too, to `stream` (standard error).

    Args:
        level: Least level that is logged: debug, info, warning or error.
        as_json: One JSON object per line; else text for people.
        stream: Where lines go.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _describe_errors,
        _without_secrets,
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer(sort_keys=False)
        if as_json
        else structlog.dev.ConsoleRenderer(colors=False)
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.PositionalArgumentsFormatter(), *shared],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            renderer,
            _blanked,
        ],
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(LEVELS[level])
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(LEVELS[level], logging.WARNING))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def error_fields(error: BaseException) -> dict[str, object]:
    """Return an error as fields of a line: the stable code, message and ids, or the type."""
    if isinstance(error, OmniLyticsError):
        fields = dict(error.as_dict())
        return {"error": fields.pop("message"), **fields}
    return {"error": f"{type(error).__name__}: {error}", "code": "internal"}


def _describe_errors(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Turn exc_info into fields; a traceback only of what is a defect."""
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    error = info[1] if isinstance(info, tuple) else info
    if not isinstance(error, BaseException):
        return event
    event.update({**error_fields(error), **event})
    if not isinstance(error, OmniLyticsError):
        import traceback

        lines = traceback.format_exception(error)
        event["traceback"] = "".join(lines)[-8_000:]
    return event


def _without_secrets(_logger: object, _method: str, event: EventDict) -> EventDict:
    for name in event:
        event[name] = _safe(name, event[name])
    return event


def _safe(name: str, value: Any) -> Any:
    if name.lower() in _SECRET_NAMES:
        return BLANK
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, MutableMapping):
        return {key: _safe(str(key), entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_safe("", entry) for entry in value]
    return value


def _blanked(_logger: object, _method: str, line: Any) -> str:
    text = str(line)
    for secret in _longest_first(_registered):
        text = text.replace(secret, BLANK)
    return text


def _longest_first(secrets: Iterable[str]) -> list[str]:
    return sorted(secrets, key=len, reverse=True)
