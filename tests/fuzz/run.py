"""Fuzz the decoders of outside bytes, guided by coverage where Atheris is installed.

    python tests/fuzz/run.py --runs 20000 [--target NAME ...] [--seed 1] [--keep DIRECTORY]

Each target runs in a process of its own, from its valid samples, for a bounded number of inputs.
These are forked from one that has instrumented the code and made the samples already.
Nothing is sent anywhere. The exit code is 1 if an input made a decoder fail in any way but an
OmniLyticsError (or hang, or take more than 2 GB); the input is left in the kept directory.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import traceback
from contextlib import nullcontext
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any, NoReturn

HERE = Path(__file__).resolve().parent
MAX_BYTES = 1 << 16
SECONDS_PER_INPUT = 20
MEMORY_MB = 2_048
_NOISE = re.compile(r"INFO:|WARNING:|#\d|0x|MS:")


def main() -> int:
    """Run the chosen targets; return the exit code."""
    options = _options()
    if options.inside:
        return _fuzz_all(options)
    names = options.target or _names()
    guided = find_spec("atheris") is not None
    print("guided by coverage" if guided else "Atheris is not installed: plain mutation")
    with tempfile.TemporaryDirectory() as scratch:
        keep = Path(options.keep or scratch)
        keep.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, __file__, "--inside", "--keep", str(keep)]
        command += ["--runs", str(options.runs), "--seed", str(options.seed)]
        for name in names:
            command += ["--target", name]
        return subprocess.run(command, check=False).returncode


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Fuzz the decoders of outside bytes.")
    parser.add_argument("--runs", type=int, default=20_000, help="inputs for each target")
    parser.add_argument("--target", action="append", help="name; repeat it for several")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", help="directory for failing inputs")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _names() -> list[str]:
    listing = "import sys; sys.path[:0] = sys.argv[1:]; import targets; print(*targets.targets())"
    paths = [str(HERE), str(HERE.parent / "support")]
    command = [sys.executable, "-c", listing, *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.split()


def _fuzz_all(options: argparse.Namespace) -> int:
    """Fuzz each target in a fork of this process; return 1 if one found anything."""
    sys.path[:0] = [str(HERE), str(HERE.parent / "support")]
    atheris = import_module("atheris") if find_spec("atheris") else None
    with (
        atheris.instrument_imports(include=["omnilytics", "eth_abi"]) if atheris else nullcontext()
    ):
        import targets
    known = targets.targets()
    failed = [name for name in options.target if not _run(atheris, known[name], options)]
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def _run(atheris: Any, target: Any, options: argparse.Namespace) -> bool:
    """Run one target in a child, print a line, return whether nothing was found."""
    with tempfile.TemporaryDirectory() as scratch:
        output_file = Path(scratch) / "output"
        corpus = Path(scratch) / "corpus"
        corpus.mkdir()
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            _run_child(atheris, target, options, corpus, output_file)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        output = output_file.read_text(errors="replace")
    runs = _last(r"(?:Done|executed) (\d+)", output)
    coverage = _last(r"cov: (\d+)", output)
    size = _last(r"corp: (\d+)", output)
    verdict = "ok" if code == 0 else "FAILED"
    print(f"{target.name:20} {verdict:7} runs {runs:>9}  edges {coverage:>6}  corpus {size:>5}")
    if code != 0:
        print(f"exit code {code}")
        print("\n".join(line for line in output.splitlines() if not _NOISE.match(line)))
    sys.stdout.flush()
    return code == 0


def _run_child(
    atheris: Any, target: Any, options: argparse.Namespace, corpus: Path, output_file: Path
) -> NoReturn:
    """Fuzz in this process, whose output goes to a file, and leave it."""
    descriptor = os.open(output_file, os.O_CREAT | os.O_WRONLY)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    try:
        if atheris is None:
            _fuzz_plainly(target, options)
        else:
            _fuzz_guided(atheris, target, options, corpus)
    except SystemExit as end:  # how Atheris ends
        sys.stdout.flush()
        os._exit(int(end.code or 0))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)


def _last(pattern: str, text: str) -> str:
    found = re.findall(pattern, text)
    return found[-1] if found else "-"


def _fuzz_guided(atheris: Any, target: Any, options: argparse.Namespace, corpus: Path) -> None:
    for place, sample in enumerate(target.samples):
        (corpus / f"sample-{place}").write_bytes(sample)
    arguments = [
        sys.argv[0],
        f"-atheris_runs={options.runs}",
        f"-seed={options.seed}",
        f"-max_len={MAX_BYTES}",
        f"-timeout={SECONDS_PER_INPUT}",
        f"-rss_limit_mb={MEMORY_MB}",
        f"-artifact_prefix={options.keep}/{target.name}-",
        "-len_control=0",
        "-reduce_inputs=0",  # a shorter input with the same coverage is often a poorer one
        str(corpus),
    ]

    def change(data: bytes, _max_size: int, seed: int) -> bytes:
        random = Random(seed)
        if random.random() < 0.3:
            return bytes(atheris.Mutate(data, MAX_BYTES))
        if random.random() < 0.2:
            data = random.choice(target.samples)
        return bytes(target.mutated(data, random))

    atheris.Setup(arguments, target.accepts, custom_mutator=change)
    atheris.Fuzz()  # leaves the process


def _fuzz_plainly(target: Any, options: argparse.Namespace) -> None:
    executed = 0
    for data in target.inputs(options.runs, options.seed):
        try:
            target.accepts(data)
        except Exception:
            (Path(options.keep) / f"{target.name}-crash").write_bytes(data)
            raise
        executed += 1
    print(f"executed {executed}")


if __name__ == "__main__":
    sys.exit(main())
