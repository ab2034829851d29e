"""A bought task on disk: its specification, the HPKE key, the model, the secrets of open rounds.

The secrets of a round are written before it is opened, the model after each step: whatever is
interrupted, a settled round can be recovered, for the weights that it was opened with.
"""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import load, save

from omnilytics.client import files
from omnilytics.foundation.errors import KeyMaterialError, MalformedError
from omnilytics.foundation.logging import register_secrets
from omnilytics.foundation.randomness import Randomness
from omnilytics.foundation.units import Hash32, Round
from omnilytics.perturbation.artefact import Tensors
from omnilytics.perturbation.round_secret import Record
from omnilytics.transport.hpke import HpkeKey
from omnilytics.wire import cbor
from omnilytics.wire.hashing import content_hash
from omnilytics.wire.task_specification import MAX_SPECIFICATION_BYTES, TaskSpecification

_ROUND_BYTES = 8


class BoughtFolder:
    """The folder of one bought task. Its repr shows the path alone."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"BoughtFolder({self.path})"

    def specification(self) -> TaskSpecification | None:
        """Return what was to be published, or None."""
        content = files.read_file(self.path / "specification")
        if content is None:
            return None
        return TaskSpecification.decode(content, max_bytes=MAX_SPECIFICATION_BYTES)

    def specification_hash(self) -> Hash32 | None:
        """Return what the contract knows the task by, or None."""
        content = files.read_file(self.path / "specification")
        return None if content is None else content_hash(content)

    def keep_specification(self, specification: TaskSpecification) -> None:
        """Keep what is to be published."""
        files.write_file(self.path / "specification", specification.encode())

    def hpke_key(self, randomness: Randomness) -> HpkeKey:
        """Return the key that shares of sums are sealed to; made at the first call."""
        place = self.path / "hpke"
        content = files.read_file(place)
        if content is None:
            key = HpkeKey.generate(randomness)
            files.write_file(place, key.secret.hex().encode())
        else:
            try:
                key = HpkeKey(bytes.fromhex(content.decode()))
            except ValueError:
                raise KeyMaterialError("no HPKE key", got=place) from None
        register_secrets(key.secret)
        return key

    # the model, as it was after the last round that was applied

    def keep_model(self, state: Tensors, applied: int) -> None:
        """Keep the module's parameters and statistics and the last round that went into them."""
        content = save(state)
        files.write_file(self.path / "model", applied.to_bytes(_ROUND_BYTES, "little") + content)

    def model(self) -> tuple[Tensors, int] | None:
        """Return what `keep_model` kept, or None; 0 stands for no round."""
        content = files.read_file(self.path / "model")
        if content is None:
            return None
        try:
            state = load(content[_ROUND_BYTES:])
        except SafetensorError:
            raise MalformedError("the kept model is damaged", got=self.path / "model") from None
        return state, int.from_bytes(content[:_ROUND_BYTES], "little")

    # rounds: see roles.model_owner.RoundKeeper

    def keep(self, round_number: Round, secret: Record, artefact: bytes) -> None:
        """Keep a round's secret and artefact; forget those of rounds before the last."""
        record = {"artefact": artefact, "secret": secret}
        files.write_file(self._round(round_number), cbor.encode(record))
        for place in self.path.glob("round-*"):
            if place.name < self._round(Round(max(0, round_number - 1))).name:
                place.unlink(missing_ok=True)

    def kept(self, round_number: Round) -> tuple[Record, bytes] | None:
        """Return secret and artefact of a round, or None."""
        content = files.read_file(self._round(round_number))
        if content is None:
            return None
        record = cbor.decode(content, max_bytes=len(content))
        if not isinstance(record, dict) or record.keys() != {"artefact", "secret"}:
            raise MalformedError("a kept round is damaged", got=self._round(round_number))
        return record["secret"], bytes(record["artefact"])

    def _round(self, round_number: Round) -> Path:
        return self.path / f"round-{round_number:06d}"
