"""`omnilytics server migrate|backup|restore|reconcile`: a server's database and files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omnilytics.cli.options import Json, SettingsOptions, grouped
from omnilytics.cli.output import narrate, print_json, reported_errors
from omnilytics.cli.settings import server_settings

if TYPE_CHECKING:
    from omnilytics.chain.reader import MarketReader
    from omnilytics.foundation.units import Address
    from omnilytics.service.settings import ServerSettings
    from omnilytics.storage.repository import Repository


@grouped
def migrate(options: SettingsOptions, json: Json = False) -> None:
    """Bring the database to this version's schema; make a back-up first, there is no way back."""
    with reported_errors(as_json=json):
        from omnilytics.service.folder import locked_folder
        from omnilytics.service.settings import secret_text
        from omnilytics.storage.database import default_url
        from omnilytics.storage.migration import migrate as migrate_database

        chosen = server_settings(options)
        url = secret_text(chosen.storage.database_url) or default_url(chosen.server.data)
        with locked_folder(chosen.server.data):
            before = migrate_database(url)
        if json:
            print_json({"before": before.revision, "now": before.want})
        else:
            typer.echo(f"schema {before.want}, was {before.revision or 'none'}")


@grouped
def backup(
    target: Annotated[Path, typer.Argument(help="Folder to make; best on another disk.")],
    options: SettingsOptions,
    json: Json = False,
) -> None:
    """Write a back-up of database and files; the server may be running."""
    with reported_errors(as_json=json):
        from omnilytics.storage.backup import backup as back_up

        chosen = server_settings(options)
        with _opened(chosen) as (repository, _, _):
            manifest = back_up(repository, target, now=int(time.time()))
        rows, size = sum(manifest.rows.values()), sum(manifest.files.values())
        if json:
            fields = {"rows": rows, "files": len(manifest.files), "bytes": size}
            print_json({"folder": str(target), **fields, "lost": list(manifest.lost)})
            return
        typer.echo(f"{target}: {rows:,} rows, {len(manifest.files):,} files, {size:,} bytes")
        for name in manifest.lost:
            narrate(f"warning: the file {name} was missing or damaged")
        narrate("it holds shares: keep it as safe as the server, and no longer than the shares")


@grouped
def restore(
    source: Annotated[Path, typer.Argument(help="Folder of a back-up.")],
    options: SettingsOptions,
    json: Json = False,
) -> None:
    """Fill an empty data folder from a back-up; `server reconcile` must follow."""
    with reported_errors(as_json=json):
        from omnilytics.service.folder import locked_folder
        from omnilytics.service.settings import secret_text
        from omnilytics.storage.backup import restore as restore_store

        chosen = server_settings(options)
        url = secret_text(chosen.storage.database_url)
        with locked_folder(chosen.server.data):
            manifest = restore_store(source, chosen.server.data, database_url=url)
        rows = sum(manifest.rows.values())
        if json:
            print_json({"rows": rows, "files": len(manifest.files), "created": manifest.created})
            return
        typer.echo(f"restored {rows:,} rows and {len(manifest.files):,} files")
        narrate("next: omnilytics server reconcile; until then the server answers nothing")


@grouped
def reconcile(options: SettingsOptions, json: Json = False) -> None:
    """Let a restored or fresh store answer again, but in no round it may have answered in.

    Everything that the server may have signed since the back-up is found from the chain, so the
    node must be in sync. The server must not be running.
    """
    with reported_errors(as_json=json):
        from omnilytics.service.folder import locked_folder
        from omnilytics.service.reconciling import reconcile_with_chain

        chosen = server_settings(options)
        with (
            locked_folder(chosen.server.data),
            _opened(chosen) as (repository, market, address),
        ):
            done = reconcile_with_chain(
                repository, market, address, stale_seconds=chosen.chain.stale_seconds
            )
        if json:
            print_json({"barred": {str(task): number for task, number in done.barred.items()}})
            return
        for task, number in done.barred.items():
            typer.echo(f"task {task}: no new answer through round {number}")
        narrate("reconciled; omnilytics server run")


def add_to(application: typer.Typer) -> None:
    """Add these commands."""
    for command in (migrate, backup, restore, reconcile):
        application.command()(command)


@contextmanager
def _opened(settings: ServerSettings) -> Iterator[tuple[Repository, MarketReader, Address]]:
    """Give the server's store, its market and its address."""
    from omnilytics.chain.market import connect_market
    from omnilytics.cli.party import address_of
    from omnilytics.service.registration import find_server
    from omnilytics.service.settings import secret_text
    from omnilytics.storage.repository import Repository

    address = address_of(settings.keys)
    chain, market = connect_market(settings.chain)
    record = find_server(market, address)
    repository = Repository(
        settings.server.data,
        chain_id=chain.chain_id,
        contract=market.address,
        server=address,
        database_url=secret_text(settings.storage.database_url),
        reconcile_when_new=record is not None and record.active_tasks > 0,
    )
    try:
        yield repository, market, address
    finally:
        repository.close()
