"""Which listed operations lay a value out as a traced tensor has it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from omnilytics.learning.layouts import View, plain_numbers
from omnilytics.perturbation.operations import (
    Flatten,
    Operation,
    PixelsToTokens,
    SelectToken,
    Shape,
    SliceChannels,
    SlicePixels,
    channel_axis,
)


def recognise(view: View) -> list[Operation] | None:
    """Return operations, one after another, that give a view's tensor; None if none do."""
    if view.is_flat():
        return [Flatten()]
    numbers = view.laid_out()
    for moves, wanted in _candidates(view.shape, numbers):
        if wanted.shape == numbers.shape and torch.equal(wanted, numbers):
            return moves
    return None


def _candidates(shape: Shape, numbers: Tensor) -> Iterator[tuple[list[Operation], Tensor]]:
    """Yield moves that the first entries suggest, and the layout that they give."""
    if not numbers.numel():
        return
    plain = plain_numbers(shape)
    first = int(numbers.reshape(-1)[0])
    if len(shape) == 2 and numbers.dim() == 2:
        token = first // shape[1]
        if token < shape[0]:
            yield [SelectToken(index=token)], plain[:, token]
    if len(shape) == 3 and numbers.dim() == 3:
        yield [PixelsToTokens()], plain.flatten(2).transpose(1, 2)
    axis = channel_axis(shape)
    if numbers.dim() == len(shape) + 1:
        yield from _slices(shape, axis, plain, numbers, first)


def _slices(
    shape: Shape, axis: int, plain: Tensor, numbers: Tensor, first: int
) -> Iterator[tuple[list[Operation], Tensor]]:
    start = [int(each) for each in torch.unravel_index(torch.tensor(first), shape)]
    size = numbers.shape[axis + 1]
    moves: list[Operation] = []
    part = plain
    if size != shape[axis]:
        if start[axis] + size > shape[axis]:
            return
        moves.append(SliceChannels(start=start[axis], stop=start[axis] + size))
        part = part.narrow(axis + 1, start[axis], size)
    if len(shape) == 3:
        rows, columns = (
            _slice_of(numbers.select(0, 0).select(0, 0), which, start[which + 1], shape)
            for which in (0, 1)
        )
        part_of = part[:, :, rows, columns]
        if part_of.shape != part.shape:
            moves.append(
                SlicePixels(
                    start=(rows.start, columns.start),
                    stop=(rows.stop, columns.stop),
                    step=(rows.step, columns.step),
                )
            )
        part = part_of
    if moves:
        yield moves, part


def _slice_of(plane: Tensor, which: int, start: int, shape: Shape) -> slice:
    """Return which rows (0) or columns (1) of an image a plane (height, width) of it has."""
    stride = shape[2] if which == 0 else 1
    line = plane[:, 0] if which == 0 else plane[0]
    step = 1 if len(line) < 2 else max(1, int(line[1] - line[0]) // stride)
    stop = min(start + (len(line) - 1) * step + 1, shape[which + 1])
    return slice(start, max(stop, start + 1), step)
