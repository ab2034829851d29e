"""`omnilytics.DataOwner`: sells gradients over the user's data, which never leave this machine."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from omnilytics.client.connection import Closing, Connection, client_settings, open_connection
from omnilytics.client.drafting import amount_wei
from omnilytics.client.events import Event, OnEvent, ignore
from omnilytics.client.files import FolderLock
from omnilytics.client.joined import JoinedTask
from omnilytics.client.sold_folder import SoldFolder
from omnilytics.client.terms import Amount
from omnilytics.foundation.amounts import show_wei
from omnilytics.foundation.errors import UsageError
from omnilytics.foundation.units import Round, TaskId, Wei, show_address
from omnilytics.learning.datasets import Batch
from omnilytics.roles import data_owner as role
from omnilytics.roles.admission import check_admitted
from omnilytics.roles.data_owner.inspecting import refuse_risky
from omnilytics.roles.task_view import TaskView


class DataOwner(Closing):
    """A seller on one market; a context manager.

    Args:
        config: TOML file with sections chain, keys and client.
        chain: JSON-RPC URL of a node.
        market: Address of the market contract.
        keystore: Keystore V3 file of the account that is paid.
        password_file: File whose first line is its password.
        data: Folder of what must outlive a run: the packages of a round.
        fewest_owners: Tasks that may release a sum over fewer are refused.
        on_event: Is told what happens, for progress bars.
        connection: A connection that is there already, instead of the settings.

    Raises:
        ConfigError: A setting is missing or wrong.
        KeyMaterialError: The account does not open.
        ChainError: The node does not answer, is on another chain, or has no such market.
    """

    def __init__(
        self,
        *,
        config: Path | str | None = None,
        chain: str | None = None,
        market: str | None = None,
        keystore: Path | str | None = None,
        password_file: Path | str | None = None,
        data: Path | str | None = None,
        fewest_owners: int = 2,
        on_event: OnEvent | None = None,
        connection: Connection | None = None,
    ) -> None:
        if connection is None:
            settings = client_settings(
                config=config,
                chain=chain,
                market=market,
                keystore=keystore,
                password_file=password_file,
                data=data,
            )
            connection = open_connection(settings)
        super().__init__(connection)
        self._fewest_owners = fewest_owners
        self._on_event = on_event or ignore

    @property
    def address(self) -> str:
        """The seller's account."""
        return show_address(self.connection.key.address)

    def join(self, *, task: int, max_bond: Amount = 0, accept_risks: bool = False) -> JoinedTask:
        """Fetch and check a task; bond what it asks for, if that is within `max_bond`.

        A bond comes back two weeks after it is asked back, less what proven faults cost.

        Args:
            task: Number of the task.
            max_bond: The most that may be bonded in all, such as "0.02 ether".
            accept_risks: Compute on models, too, that look built to copy samples into the sum
                (docs/inspection.md); otherwise `submit` raises VerificationError for such a one.

        Raises:
            UsageError: The task asks for a larger bond.
            VerificationError: The task is not what the chain says, or does not admit this owner.
            PeerError: No server gives the specification.
        """
        connection, number = self.connection, TaskId(task)
        folder = SoldFolder(connection.folder / "sold" / f"task-{task:06d}")
        source = Source()
        owner = role.DataOwner(
            key=connection.key,
            market=connection.market,
            writer=connection.writer,
            connect=connection.connect,
            batches=source,
            randomness=connection.randomness,
            now=connection.now,
            fewest_owners=self._fewest_owners,
            keeper=folder,
            inspect=(lambda _view, _artefact: None) if accept_risks else refuse_risky,
        )
        view = connection.run(owner.view(number))
        self._bond(view, amount_wei(max_bond))
        check_admitted(connection.market, view.parameters.admission, owner.address)
        self._locks.append(FolderLock(folder.path))
        message = f"task {task} pays {show_wei(view.specification.reward_wei)} a gradient"
        self._on_event(Event(kind="joined", message=message, task=number))
        return JoinedTask(
            connection=connection,
            owner=owner,
            view=view,
            folder=folder,
            source=source,
            on_event=self._on_event,
        )

    def _bond(self, view: TaskView, most: Wei) -> None:
        admission, key = view.parameters.admission, self.connection.key
        bond = self.connection.market.bond(key.address)
        if not admission.admits(key.address) or bond.covers(admission.min_bond_wei):
            return
        if admission.min_bond_wei > most:
            wanted = show_wei(admission.min_bond_wei)
            raise UsageError(
                "the task asks for a larger bond than you allow",
                got=wanted,
                want=f"<= {show_wei(most)}",
                hint=f'join(task={view.task}, max_bond="{wanted}") bonds it',
                task=view.task,
            )
        missing = Wei(max(1, admission.min_bond_wei - bond.amount_wei))
        self.connection.writer.add_bond(missing)
        message = f"{show_wei(missing)} more are bonded"
        self._on_event(Event(kind="bonded", message=message, task=view.task))


class Source:
    """Gives the role the data of the submission that is being made."""

    def __init__(self) -> None:
        self.data: Iterable[Batch] = ()

    def __call__(self, _round: Round) -> Iterable[Batch]:
        """Return them, whatever the round."""
        return self.data
