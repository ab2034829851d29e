"""`omnilytics doctor`: what is right and wrong here, each with the command that fixes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from omnilytics.cli.options import AccountOptions, Json, grouped
from omnilytics.cli.output import print_json, reported_errors

if TYPE_CHECKING:
    from pathlib import Path

    from omnilytics.cli.findings import Finding
    from omnilytics.client.settings import ClientSettings
    from omnilytics.foundation.units import TaskId
    from omnilytics.service.settings import ServerSettings

_CLIENT_SECTIONS = {"chain", "keys", "client"}


@grouped
def doctor(
    options: AccountOptions,
    task: Annotated[
        int | None,
        typer.Option("--task", help="Ask this task's servers; default: those of all.", min=1),
    ] = None,
    json: Json = False,
) -> None:
    """Check program, chain, account and servers, for the server's or client's settings given.

    The exit code is that of the first problem, 0 without any: what comes later may follow from it.
    """
    with reported_errors(as_json=json):
        findings = list(_findings(options, task))
        problems = [each for each in findings if each.exit_code]
        if json:
            print_json(
                {"ok": not problems, "findings": [finding.as_dict() for finding in findings]}
            )
        else:
            for finding in findings:
                _print_finding(finding)
        if problems:
            raise typer.Exit(problems[0].exit_code)


def _findings(options: AccountOptions, task: int | None) -> Iterator[Finding]:
    from omnilytics.cli.doctor_machine import check_program
    from omnilytics.cli.findings import problem
    from omnilytics.cli.settings import client_settings, server_settings
    from omnilytics.foundation.errors import OmniLyticsError
    from omnilytics.foundation.units import TaskId

    yield from check_program()
    number = None if task is None else TaskId(task)
    try:
        if _is_server(options.config):
            yield from _server_findings(server_settings(options), number)
        else:
            yield from _client_findings(client_settings(options), number)
    except OmniLyticsError as error:
        yield problem("settings", error)


def _server_findings(settings: ServerSettings, task: TaskId | None) -> Iterator[Finding]:
    from omnilytics.cli.doctor_machine import check_server_machine
    from omnilytics.cli.doctor_market import MarketChecks

    checks = MarketChecks(settings.chain, settings.keys)
    yield from checks.common()
    yield from checks.server(settings)
    yield from check_server_machine(settings)
    if checks.address is not None:
        yield from checks.endpoints(task, checks.address)


def _client_findings(settings: ClientSettings, task: TaskId | None) -> Iterator[Finding]:
    from omnilytics.cli.doctor_machine import LEAST_FREE_BYTES, disk
    from omnilytics.cli.doctor_market import MarketChecks
    from omnilytics.cli.findings import examine

    checks = MarketChecks(settings.chain, settings.keys)
    yield from checks.common()
    yield from checks.owner()
    folder = settings.client.data
    yield examine("disk", lambda: disk(folder, LEAST_FREE_BYTES, "client.data"))
    yield from checks.endpoints(task)


def _is_server(config: Path | None) -> bool:
    """Tell by its sections whether a settings file is a server's."""
    import tomllib

    if config is None:
        return False
    try:
        tables = tomllib.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False  # loading the settings says what is wrong
    return bool(tables.keys() - _CLIENT_SECTIONS) or "hpke_key" in tables.get("keys", {})


def _print_finding(finding: Finding) -> None:
    typer.echo(f"{finding.state:<8} {finding.check:<18} {finding.said}")
    if finding.fix:
        typer.echo(f"{'':<27} fix: {finding.fix}")
