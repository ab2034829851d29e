"""What starts quickly imports little: counted in modules, since times differ by machine."""

from __future__ import annotations

import subprocess
import sys

import pytest

CHAIN = {"web3", "eth_account", "eth_tester", "eth", "py_ecc"}
DATA = {"torch", "sklearn", "matplotlib", "pyarrow"}
SERVICE = {"sqlalchemy", "alembic", "fastapi", "uvicorn"}


@pytest.mark.parametrize(
    ("program", "heavy"),
    [
        ("import omnilytics", CHAIN | DATA | SERVICE | {"numpy", "numba", "pydantic", "typer"}),
        (
            "import omnilytics.protocol.package_builder, omnilytics.transport.sealed_files",
            CHAIN | DATA | SERVICE | {"numba"},
        ),
        ("import omnilytics.benchmark.parties", CHAIN | DATA | SERVICE | {"numba"}),
        ("import omnilytics.chain.sender, omnilytics.chain.keystore", CHAIN | DATA | SERVICE),
    ],
)
def test_imports_that_a_start_waits_for(program: str, heavy: set[str]) -> None:
    found = f"import sys; {program}; print(*sorted({heavy!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", found], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
