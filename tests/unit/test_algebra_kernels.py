from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from omnilytics.algebra import kernels
from omnilytics.algebra.extension import ExtensionElement
from omnilytics.algebra.power_weights import PowerWeights
from omnilytics.foundation.errors import UsageError

_DUMP = """
import json, re
import llvmlite.binding as llvm
from omnilytics.algebra.kernels import numba as fast
wide = {}
for name in ("_multiply_loop", "_axpy_loop", "_inner_product_loop", "_sum_of_squares_loop",
    "_two_inner_products_loop"):
    (text,) = getattr(fast, name).inspect_asm().values()
    wide[name] = len(re.findall(r"vpmul\\w+.*%[yz]mm", text))
for name in ("_add_loop", "_subtract_loop"):
    (text,) = getattr(fast, name).inspect_asm().values()
    wide[name] = len(re.findall(r"vp(?:add|sub)q.*%[yz]mm", text))
(text,) = fast._projections_loop.inspect_asm().values()
wide["_projections_loop"] = len(re.findall(r"vpaddw.*%[yz]mm", text))
print(json.dumps({"avx2": bool(llvm.get_host_cpu_features().get("avx2")), "wide": wide}))
"""


def test_hot_loops_use_vector_instructions(tmp_path: Path) -> None:
    # Machine code is only shown for what was compiled in this process: a fresh cache.
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    output = subprocess.run(
        [sys.executable, "-c", _DUMP], env=environment, check=True, capture_output=True, text=True
    ).stdout
    report = json.loads(output)
    if not report["avx2"]:
        pytest.skip("this processor has no AVX2: there are no wide instructions to look for")
    assert all(report["wide"].values()), report["wide"]


def test_numba_is_the_default_and_can_be_replaced() -> None:
    fast = kernels.current()
    assert fast is kernels.load("numba")
    with kernels.select("reference") as slow:
        assert kernels.current() is slow
        assert slow is not fast
    assert kernels.current() is fast
    with pytest.raises(UsageError, match="unknown kernels"):
        kernels.load("other")


def test_importing_the_package_compiles_nothing() -> None:
    code = "import sys, omnilytics.algebra.streams; sys.exit('numba' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_warm_up_leaves_nothing_to_compile() -> None:
    kernels.warm_up()
    fast = sys.modules["omnilytics.algebra.kernels.numba"]
    loops = [value for name, value in vars(fast).items() if name.endswith("_loop")]
    assert len(loops) >= 10
    assert all(len(loop.signatures) == 1 for loop in loops)
    assert not any(loop._can_compile for loop in loops)


def test_unequal_lengths_are_refused() -> None:
    fast = kernels.load("numba")
    short, long = np.zeros(3, dtype=np.uint64), np.zeros(4, dtype=np.uint64)
    with pytest.raises(UsageError):
        fast.add(short, long, long)
    with pytest.raises(UsageError):
        fast.inner_product(short, long)
    with pytest.raises(UsageError):
        fast.extend_shares(np.zeros((2, 3), np.uint64), np.zeros((1, 3), np.uint64), 1)
    with pytest.raises(UsageError):
        fast.word_products(
            np.zeros((3, 2), dtype=np.uint8),
            np.zeros((3, 256, 2), dtype=np.int64),
            np.zeros((2, 3), dtype=np.uint64),
            short,
        )
    with pytest.raises(UsageError):
        fast.word_products(
            np.zeros((4, 2), dtype=np.uint8),
            np.zeros((2, 256, 2), dtype=np.int64),
            np.zeros((2, 3), dtype=np.uint64),
            short,
        )
    with pytest.raises(UsageError):
        fast.from_signed(np.zeros(3, dtype=np.int64), long)
    with pytest.raises(UsageError):
        fast.round_stochastically(np.zeros(3), 1.0, long, np.zeros(3, dtype=np.int64))
    with pytest.raises(UsageError):
        fast.projections(np.zeros((3, 2), dtype=np.uint8), np.zeros(4, dtype=np.int32))


def test_vectors_from_the_middle_of_a_message_are_accepted() -> None:
    fast = kernels.load("numba")
    message = b"\x05" + np.array([1, 2, 3], dtype=np.uint64).tobytes()
    unaligned = np.frombuffer(message, dtype=np.uint64, offset=1)
    assert fast.sum_of_squares(unaligned) == 14
    assert fast.sum_of_squares(np.arange(10, dtype=np.uint64)[::2]) == 4 + 16 + 36 + 64


def test_power_weights_do_not_depend_on_how_a_vector_is_cut() -> None:
    base = ExtensionElement(3, 2**63)
    vector = np.random.default_rng(1).integers(0, 2**63, 20_000, dtype=np.uint64)
    weights = PowerWeights(base)
    whole = kernels.current().extension_inner_product(
        kernels.current().extension_powers(base, 1, len(vector)), vector
    )
    assert weights.inner_product(vector) == whole
    head, tail = weights.inner_product(vector[:9000]), weights.inner_product(vector[9000:], 9000)
    total = ExtensionElement(
        *((a + b) % (2**64 - 2**32 + 1) for a, b in zip(head, tail, strict=True))
    )
    assert total == whole
