"""The encoding is linear and invertible for every layout."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from omnilytics.learning.encoding import Layout

SHAPES = st.lists(
    st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple), min_size=1, max_size=5
)
FINITE = st.floats(-1e6, 1e6, width=32)


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    shapes = tuple(draw(SHAPES))
    scales = tuple(draw(st.floats(1e-3, 1e3)) for _ in shapes)
    return Layout(tuple(f"t{index}" for index in range(len(shapes))), shapes, scales)


@given(layouts(), st.integers(0, 2**32 - 1), st.integers(1, 50))
def test_mean_of_integer_sum_is_the_mean(layout: Layout, seed: int, owners: int) -> None:
    draw = np.random.default_rng(seed)
    vectors = [draw.integers(-(2**16), 2**16, size=layout.length) for _ in range(owners)]
    mean = layout.mean_of_sum(np.sum(vectors, axis=0), fraction_bits=16, accepted=owners)
    singles = [layout.mean_of_sum(vector, fraction_bits=16, accepted=1) for vector in vectors]
    for name in layout.names:
        want = np.mean([single[name] for single in singles], axis=0)
        np.testing.assert_allclose(mean[name], want, rtol=1e-9, atol=1e-9)


@given(layouts(), st.data())
def test_flatten_then_unflatten(layout: Layout, data: st.DataObject) -> None:
    gradients = {
        name: data.draw(arrays.arrays(np.float32, shape, elements=FINITE))
        for name, shape in zip(layout.names, layout.shapes, strict=True)
    }
    back = layout.unflatten(layout.flatten(gradients))
    for name, tensor in gradients.items():
        assert back[name].shape == tensor.shape
        np.testing.assert_allclose(back[name], tensor.astype(np.float64), rtol=1e-14)
