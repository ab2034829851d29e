"""What a buyer's commands keep of a task between runs: how it is trained, and how far it is.

training.json says how, checkpoint-N.safetensors has weights and optimiser after round N, and
rounds.json what each round gave. Every file is whole or not there.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnilytics.foundation.errors import ConfigError, UsageError
from omnilytics.foundation.units import TaskId
from omnilytics.learning.checkpoints import load_optimiser, save_checkpoint, write_file
from omnilytics.learning.sources import import_object
from omnilytics.learning.training import OptimiserSettings, make_optimiser

if TYPE_CHECKING:
    from omnilytics.chain.reader import MarketReader
    from omnilytics.client.bought import BoughtRound, BoughtTask
    from omnilytics.learning.carried import Module

_KEPT_CHECKPOINTS = 3


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a task is trained."""

    model: str
    """`module:function` that makes the network."""
    optimiser: str
    learning_rate: float

    def make_model(self) -> Module:
        """Return the user's network, freshly made by the user's own code."""
        made: Module = import_object(self.model)()
        if not hasattr(made, "named_parameters"):
            raise UsageError(
                "the function makes no network", got=type(made).__name__, want="a torch Module"
            )
        return made

    def make_optimiser(self, model: Module) -> Any:
        """Return its optimiser, without any state."""
        return make_optimiser(model, OptimiserSettings(self.optimiser, self.learning_rate))


class TrainingFolder:
    """The folder of one task of one market."""

    def __init__(self, data: Path, market: MarketReader, task: TaskId) -> None:
        place = f"{market.chain.chain_id}-{market.address.hex()}-{task}"
        self.path = data / "training" / place
        self.task = task

    def keep(self, training: Training) -> None:
        """Write down how the task is trained."""
        write_file(self.path / "training.json", json.dumps(asdict(training)).encode())

    def training(self) -> Training:
        """Return how the task is trained; raises UsageError where it was not published here."""
        try:
            return Training(**json.loads((self.path / "training.json").read_bytes()))
        except FileNotFoundError:
            raise UsageError(
                "this task was not published from here",
                got=f"no {self.path}",
                hint="name the data folder it was published with: --set client.data=FOLDER",
                task=self.task,
            ) from None
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError("the file cannot be used", got=f"{self.path}: {error}") from None

    def is_begun(self) -> bool:
        """Tell whether there is a checkpoint."""
        return bool(self._checkpoints())

    def done(self) -> int:
        """Return the last round whose step was taken, 0 before the first."""
        return max(self._checkpoints(), default=0)

    def checkpoint(self, number: int) -> Path:
        """Return the file of the checkpoint after a round."""
        return self.path / f"checkpoint-{number}.safetensors"

    def save(self, number: int, model: Module, optimiser: Any) -> None:
        """Keep weights and optimiser after a round; the oldest checkpoints go."""
        facts = {"task": str(self.task), "round": str(number)}
        save_checkpoint(self.checkpoint(number), model, optimiser, facts)
        for old in sorted(self._checkpoints())[:-_KEPT_CHECKPOINTS]:
            self.checkpoint(old).unlink(missing_ok=True)

    def load_optimiser(self, number: int, model: Module, optimiser: Any) -> None:
        """Give the optimiser the state that it had before a round's step."""
        before = max((each for each in self._checkpoints() if each < number), default=None)
        if before is not None:
            load_optimiser(self.checkpoint(before), model, optimiser)

    def rounds(self) -> list[dict[str, Any]]:
        """Return what each round gave."""
        try:
            found: list[dict[str, Any]] = json.loads((self.path / "rounds.json").read_bytes())
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise ConfigError("the file cannot be used", got=f"{self.path}: {error}") from None
        return found

    def add(self, bought: BoughtRound) -> None:
        """Write down what a round gave."""
        entry = {
            "round": bought.number,
            "accepted": bought.owners,
            "lying_servers": list(bought.lying_servers),
        }
        others = [each for each in self.rounds() if each["round"] != bought.number]
        write_file(self.path / "rounds.json", json.dumps([*others, entry]).encode())

    def _checkpoints(self) -> list[int]:
        found = self.path.glob("checkpoint-*.safetensors")
        return [int(path.stem.partition("-")[2]) for path in found]


def train_rounds(
    folder: TrainingFolder,
    bought: BoughtTask,
    model: Module,
    optimiser: Any,
    *,
    timeout: float | None = None,
) -> Iterator[BoughtRound]:
    """Take a step for each round from where the task is; yield each once it is written down.

    The model has the weights that the task stopped at. A step that cannot be written down is taken
    back, so that its round is given again: whatever is interrupted goes on where it was.
    """
    is_resumed = False
    for each in bought.rounds(timeout=timeout):
        if not is_resumed:
            folder.load_optimiser(each.number, model, optimiser)
            is_resumed = True
        before = copy.deepcopy(model.state_dict())
        try:
            each.fill_gradients(model)
            optimiser.step()
            folder.add(each)
            folder.save(each.number, model, optimiser)
        except BaseException:
            model.load_state_dict(before)
            raise
        yield each
