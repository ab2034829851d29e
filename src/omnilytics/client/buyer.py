"""`omnilytics.ModelOwner`: buys gradients for the user's module, in the user's training loop."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from omnilytics.client.bought import BoughtTask
from omnilytics.client.bought_folder import BoughtFolder
from omnilytics.client.connection import Closing, Connection, client_settings, open_connection
from omnilytics.client.drafting import changed_terms, complete, draft_profile, make_specification
from omnilytics.client.events import Event, OnEvent, ignore
from omnilytics.client.files import FolderLock
from omnilytics.client.terms import Terms
from omnilytics.foundation.errors import KeyMaterialError, UsageError
from omnilytics.foundation.units import TaskId, Wei, show_address
from omnilytics.learning.calibration import calibrate, scales_without_training
from omnilytics.learning.carried import CarriedModel, Module
from omnilytics.learning.datasets import Batch
from omnilytics.learning.training import OptimiserSettings, Trainer
from omnilytics.learning.user_data import collect
from omnilytics.perturbation.graph import InputKind
from omnilytics.perturbation.losses import read_loss
from omnilytics.perturbation.profiles import Profile
from omnilytics.roles import model_owner as role
from omnilytics.roles.task_view import chain_terms
from omnilytics.wire.task_specification import TaskSpecification

MOST_SAMPLES = 20_000
"""Samples of the buyer's own that scales rest on at most."""
MOST_SIMULATED_ROUNDS = 40
_SEED = 0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A task that is not published yet: nothing was sent or paid."""

    name: str
    specification: TaskSpecification
    clipping_rate: float | None
    """Predicted share of honest gradients that will be shortened; None if nothing was measured."""
    task: TaskId | None
    """The task, if it was published before: publishing resumes it and pays nothing."""

    @property
    def escrow_wei(self) -> Wei:
        """What publishing locks; unused money comes back by `close`."""
        return chain_terms(self.specification).escrow_wei


class ModelOwner(Closing):
    """A buyer on one market; a context manager.

    Args:
        config: TOML file with sections chain, keys and client.
        chain: JSON-RPC URL of a node.
        market: Address of the market contract.
        keystore: Keystore V3 file of the account that pays.
        password_file: File whose first line is its password.
        data: Folder of what must outlive a run: secrets of rounds, the model.
        on_event: Is told what happens, for progress bars.
        connection: A connection that is there already, instead of all of the above.

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
        self._on_event = on_event or ignore

    @property
    def address(self) -> str:
        """The buyer's account."""
        return show_address(self.connection.key.address)

    def draft(self, net: Module, **terms: Unpack[Terms]) -> Draft:
        """Check a module and terms and measure the scales; send nothing.

        A task of this name that is on the chain is taken as it is, with its scales.

        Raises:
            ModelError: The module cannot be carried, or the sample does not fit it.
            UsageError: Terms that cannot be, or other ones than the published task has.
            ChainError: A named server is not registered.
        """
        chosen = complete(terms)
        folder = self._folder(chosen["name"])
        if "sample" not in chosen:
            raise UsageError("no sample was given", hint="sample= some data of your own")
        kind = read_input_kind(chosen["input_kind"])
        sample = collect(chosen["sample"], most=MOST_SAMPLES, input_kind=kind)
        model = CarriedModel(net, input_shape=sample.inputs.shape[1:], input_kind=kind)
        old, task = self._published(folder)
        profile = draft_profile(chosen, model.graph, old, self.connection.randomness)
        scales, rate = self._scales(model, sample, chosen, profile, old)
        specification = make_specification(
            chosen,
            self.connection.market,
            graph=model.graph,
            profile=profile,
            scales=scales,
            model_owner=self.connection.key.address,
            hpke_key=folder.hpke_key(self.connection.randomness).public,
        )
        if old is not None:
            if different := changed_terms(specification, old):
                raise UsageError(
                    "a task of this name is published with other terms",
                    got=", ".join(different),
                    hint="give the same terms to go on with it, or another name=",
                    task=task,
                )
            specification = old
        return Draft(
            name=chosen["name"], specification=specification, clipping_rate=rate, task=task
        )

    def publish(self, net: Module, **terms: Unpack[Terms]) -> BoughtTask:
        """Draft a task, lock the money of its rounds, and publish it.

        Again with the same name and terms it resumes the task and pays nothing: the module then
        gets the weights that the task stopped at.

        Raises:
            FundsError: The account cannot pay.
            PeerError: A server does not agree, or too few took the specification.
        """
        return self.publish_draft(net, self.draft(net, **terms))

    def publish_draft(self, net: Module, draft: Draft) -> BoughtTask:
        """Publish a task that was drafted; see `publish`."""
        folder = self._folder(draft.name)
        with self._locked(folder):
            old, _ = self._published(folder)
            if old is None:
                folder.keep_specification(draft.specification)
            elif old != draft.specification:
                raise UsageError("the task was published meanwhile", hint="draft it again")
            return self._open(net, folder, draft.specification)

    def resume(self, task: int, net: Module) -> BoughtTask:
        """Take up a task from its folder; the module gets the weights that it stopped at.

        Raises:
            KeyMaterialError: This machine has no folder of the task.
            ModelError: The module is not the task's.
        """
        wanted = self.connection.market.task(TaskId(task)).terms.spec_hash
        for place in sorted((self.connection.folder / "bought").glob("*")):
            folder = BoughtFolder(place)
            if folder.specification_hash() == wanted:
                specification = folder.specification()
                assert specification is not None
                with self._locked(folder):
                    return self._open(net, folder, specification)
        raise KeyMaterialError(
            "the task's secrets are not here",
            got=self.connection.folder,
            hint="set client.data to the folder that it was published from",
            task=task,
        )

    def _open(
        self, net: Module, folder: BoughtFolder, specification: TaskSpecification
    ) -> BoughtTask:
        model = CarriedModel(
            net,
            input_shape=specification.input_shape,
            input_kind=InputKind(specification.input_kind),
        )
        kept = folder.model()
        if kept is None:
            folder.keep_model(model.state(), 0)
            applied = 0
        else:
            state, applied = kept
            model.load_state(state)
        connection = self.connection
        owner = role.ModelOwner(
            key=connection.key,
            hpke_key=folder.hpke_key(connection.randomness),
            market=connection.market,
            writer=connection.writer,
            connect=connection.connect,
            model=model,
            randomness=connection.randomness,
            now=connection.now,
            keeper=folder,
        )
        view = connection.run(owner.publish_task(specification))
        message = f"task {view.task} is published; resume({view.task}, net) takes it up again"
        self._on_event(Event(kind="published", message=message, task=view.task))
        return BoughtTask(
            connection=connection,
            owner=owner,
            folder=folder,
            applied=applied,
            on_event=self._on_event,
        )

    def _scales(
        self,
        model: CarriedModel,
        sample: Batch,
        terms: Terms,
        profile: Profile,
        old: TaskSpecification | None,
    ) -> tuple[dict[str, float], float | None]:
        if old is not None:
            return old.scales, None
        if "scales" in terms:
            return dict(terms["scales"]), None
        loss, size = read_loss(terms["loss"]), terms["batch_size"]
        if terms["calibration"] == "weights":
            scales = scales_without_training(
                model, sample, loss=loss, batch_size=size, seed=_SEED, profile=profile
            )
            rate = None
        elif terms["calibration"] == "training":
            trainer = Trainer(
                model.fresh_copy().module.cpu(),
                input_shape=model.graph.input_shape,
                loss=loss,
                optimiser=OptimiserSettings("adam", terms["learning_rate"]),
                input_kind=model.graph.input_kind,
            )
            measured = calibrate(
                trainer,
                sample,
                owners=terms["max_owners"],
                batch_size=size,
                rounds=min(terms["rounds"], MOST_SIMULATED_ROUNDS),
                seed=_SEED,
                profile=profile,
            )
            scales, rate = measured.scales, measured.clipping_rate
        else:
            raise UsageError("unknown calibration", got=terms["calibration"])
        self._on_event(Event(kind="calibrated", message="the scales are measured on the sample"))
        return scales, rate

    def _published(self, folder: BoughtFolder) -> tuple[TaskSpecification | None, TaskId | None]:
        """Return what of a folder is on the chain."""
        old = folder.specification()
        if old is None:
            return None, None
        task = self.connection.market.task_of(self.connection.key.address, old.hash())
        return (None, None) if task is None else (old, task)

    def _folder(self, name: str) -> BoughtFolder:
        if not _NAME.fullmatch(name):
            raise UsageError(
                "not a name for a folder", got=name[:80], want="letters, digits, . _ and -"
            )
        return BoughtFolder(self.connection.folder / "bought" / name)

    @contextmanager
    def _locked(self, folder: BoughtFolder) -> Iterator[None]:
        """Hold a folder from here to `close`, unless the block fails."""
        lock = FolderLock(folder.path)
        try:
            yield
        except BaseException:
            lock.release()
            raise
        self._locks.append(lock)


def read_input_kind(name: str) -> InputKind:
    """Return the kind of inputs of a name; raises UsageError."""
    try:
        return InputKind(name)
    except ValueError:
        raise UsageError(
            "unknown kind of inputs", got=str(name)[:60], want=" or ".join(InputKind)
        ) from None
