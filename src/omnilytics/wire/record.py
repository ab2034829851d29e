"""Base of the unsigned records: typed, bounded, frozen, with one deterministic encoding."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from omnilytics.foundation.errors import MalformedError
from omnilytics.foundation.units import Address, Hash32, Round, TaskId
from omnilytics.wire import cbor

MAX_COMMITTEE = 13
MAX_OWNERS = 100_000
MAX_TENSORS = 4_096
MAX_CHUNKS = 4_096

Bytes20 = Annotated[Address, Field(strict=True, min_length=20, max_length=20)]
Bytes32 = Annotated[Hash32, Field(strict=True, min_length=32, max_length=32)]
Signature = Annotated[bytes, Field(strict=True, min_length=65, max_length=65)]
Count = Annotated[int, Field(strict=True, ge=0, lt=1 << 63)]
WeiAmount = Annotated[int, Field(strict=True, ge=0, lt=1 << 128)]
TaskNumber = Annotated[TaskId, Field(strict=True, ge=1, lt=1 << 63)]
RoundNumber = Annotated[Round, Field(strict=True, ge=1, lt=1 << 31)]
ServerIndex = Annotated[int, Field(strict=True, ge=1, le=MAX_COMMITTEE)]
"""Evaluation point of a server: its place in the committee, from 1."""
Name = Annotated[str, Field(strict=True, min_length=1, max_length=256)]
Text = Annotated[str, Field(strict=True, max_length=8_192)]


class Record(BaseModel):
    """A message body whose fields are validated on the way in and encoded as a CBOR map."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    def encode(self) -> bytes:
        """Return the deterministic CBOR of the record."""
        return cbor.encode(self.model_dump())

    @classmethod
    def decode(cls, data: bytes, *, max_bytes: int) -> Self:
        """Return the record in `data`; raises MalformedError that names the first wrong field."""
        record = cls.from_plain(cbor.decode(data, max_bytes=max_bytes))
        # A left-out default or a float for an integer would give one record two hashes.
        if record.encode() != data:
            raise MalformedError(f"{cls.__name__}: not in its only form")
        return record

    @classmethod
    def from_plain(cls, value: object) -> Self:
        """Return the record made of plain decoded values; raises MalformedError."""
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            place = ".".join(str(step)[:64] for step in first["loc"]) or "record"
            raise MalformedError(f"{cls.__name__}: {place}: {first['msg']}") from None
