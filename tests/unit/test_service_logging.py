"""Logs: one JSON object per line, ids from the context, no secrets in any line."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from structlog.contextvars import bound_contextvars

from omnilytics.foundation import logging as logs
from omnilytics.foundation.errors import ChainError

SECRET = bytes(range(32))


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = (root.handlers, root.level)
    registered = set(logs._registered)
    lines = io.StringIO()
    logs.configure_logging(level="debug", stream=lines)
    yield lines
    root.handlers, root.level = before
    logs._registered.clear()
    logs._registered.update(registered)
    structlog.reset_defaults()


def read(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_lines_carry_the_ids_of_their_context(stream: io.StringIO) -> None:
    with bound_contextvars(task=3, round=7, request="abc"):
        logs.get_logger("a").info("stored", bytes=5)
        logging.getLogger("library").warning("odd %s", "thing")
    ours, theirs = read(stream)
    assert (ours["event"], ours["bytes"], ours["level"]) == ("stored", 5, "info")
    assert (theirs["event"], theirs["logger"]) == ("odd thing", "library")
    for line in (ours, theirs):
        assert (line["task"], line["round"], line["request"]) == (3, 7, "abc")


def test_errors_of_the_tree_are_fields_and_defects_have_a_traceback(stream: io.StringIO) -> None:
    log = logs.get_logger("a")
    try:
        _raise(ChainError("no answer", got="node", hint="start it", block=4))
    except ChainError:
        log.warning("failed", exc_info=True)
    try:
        _raise(RuntimeError("defect"))
    except RuntimeError:
        log.exception("failed")
    known, defect = read(stream)
    assert (known["code"], known["error"], known["block"]) == ("chain", "no answer", "4")
    assert "traceback" not in known
    assert defect["code"] == "internal"
    assert "RuntimeError: defect" in defect["traceback"]


def test_no_secret_passes(stream: io.StringIO) -> None:
    logs.register_secrets(SECRET, "correct horse")
    log = logs.get_logger("a")
    log.info("key", secret="x1", nested={"password": "x2"}, raw=SECRET, many=[SECRET, "fine"])
    log.info(f"slip {SECRET.hex()} and correct horse")
    logging.getLogger("library").error("slip %s", "correct horse")
    try:
        _raise(ValueError("correct horse"))
    except ValueError:
        log.exception("slip")
    text = stream.getvalue()
    for secret in ("x1", "x2", SECRET.hex(), "correct horse", repr(SECRET)[2:-1]):
        assert secret not in text
    assert read(stream)[0]["raw"] == "<32 bytes>"


def test_short_words_are_not_taken_for_secrets(stream: io.StringIO) -> None:
    logs.register_secrets("a", "")
    logs.get_logger("b").info("available")
    assert read(stream)[0]["event"] == "available"


def test_levels_and_text(stream: io.StringIO) -> None:
    lines = io.StringIO()
    logs.configure_logging(level="warning", as_json=False, stream=lines)
    logs.get_logger("a").info("quiet")
    logs.get_logger("a").warning("loud", task=3)
    assert "quiet" not in lines.getvalue()
    assert "loud" in lines.getvalue()
    assert "task=3" in lines.getvalue()


def _raise(error: Exception) -> None:
    raise error
