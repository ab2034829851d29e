"""Whole rounds with many owners or large vectors: real server processes on a real chain (Linux).

Run it from the repository with `.venv/bin/python benchmarks/scale.py --owners 100`; it needs anvil
(`make devnet-tools`). Five servers, anvil, the owners and the model owner are a
process each and share the machine's cores. Vectors are random: no model is trained. The script
moves the chain's clock on once every server has nothing left to do, so a phase's wall time holds no
waiting for a window to end; the recovered sum is compared with the sum of what owners shared.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path
from typing import Any

import httpx

from omnilytics.chain.records import Phase
from omnilytics.demo.result import machine
from omnilytics.demo.specification import DEMO_WINDOWS
from omnilytics.roles.server.complaints import (
    answer_cut_off,
    complaint_cut_off,
    hearing_cut_off,
)
from omnilytics.roles.server.sealing import next_turn
from omnilytics.roles.server.settling import GRACE_BLOCKS, CutOffs
from omnilytics.sharing.committee import Committee

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from anvil_process import Anvil, counted_anvil
from devnet import anvil_binary
from process_figures import cpu_seconds, peak_resident_bytes
from server_process import COMMAND, RunningServer
from submission_world import SubmissionWorld, submission_world

from sampled_server import VARIABLE

COMMITTEE = Committee(servers=5, privacy=1, errors=1)
WINDOWS = DEMO_WINDOWS.model_copy(
    update={"submission_seconds": 1 << 16, "rotation_seconds": 1 << 14, "seal_seconds": 1 << 17}
)
"""The chain's clock follows the machine's until submissions end: no run may last longer."""
SAMPLED = (sys.executable, str(Path(__file__).with_name("sampled_server.py")))
PARTIES = Path(__file__).with_name("scale_parties.py")
_STEPS = re.compile(r'omnilytics_round_steps_(?:total\{outcome=")?(\w+)(?:"\})? (\d+)')
_LOOK_SECONDS = 0.2


@dataclass
class PhaseFigures:
    """What one phase of a round took."""

    wall_seconds: float = 0.0
    cpu_seconds: dict[str, float] = field(default_factory=dict)


@dataclass
class Figures:
    """What one run showed."""

    owners: int
    dimension: int
    phases: dict[str, PhaseFigures] = field(default_factory=dict)
    parties: dict[str, Any] = field(default_factory=dict)
    peak_bytes: dict[str, int] = field(default_factory=dict)
    """Most memory in RAM, pages of mapped files among it, by process."""
    anonymous_bytes: dict[str, int] = field(default_factory=dict)
    """Most memory in RAM but for pages of files, seen five times a second."""
    disk_bytes: dict[str, int] = field(default_factory=dict)
    chain_requests: dict[str, int] = field(default_factory=dict)


class Round:
    """One round of a world whose servers run."""

    def __init__(
        self, world: SubmissionWorld, anvil: Anvil, servers: list[RunningServer], figures: Figures
    ) -> None:
        self.world, self.anvil, self.servers, self.figures = world, anvil, servers, figures
        self._pids = {"anvil": anvil.process.pid} | {
            f"server {place}": server.process.pid for place, server in enumerate(servers, start=1)
        }

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add wall and processor time of all processes to a phase."""
        started, before = time.perf_counter(), self._cpu()
        yield
        figures = self.figures.phases.setdefault(name, PhaseFigures())
        seconds = time.perf_counter() - started
        figures.wall_seconds += seconds
        for process, spent in self._cpu().items():
            used = spent - before[process]
            figures.cpu_seconds[process] = figures.cpu_seconds.get(process, 0.0) + used
        print(f"{name}: {seconds:.1f} s", file=sys.stderr, flush=True)

    def party(self, phase: str, name: str, given: dict[str, Any], folder: Path) -> None:
        """Let a party play; the phase's wall time is its own, without the start of its process."""
        with self.phase(phase):
            found = self.figures.parties[name] = _party(name, given, folder)
        self.figures.phases[phase].wall_seconds = found["wall_seconds"]

    def watch(self, stop: threading.Event) -> None:
        """Look at what the processes hold in RAM until told to stop."""
        found = self.figures.anonymous_bytes
        while not stop.wait(_LOOK_SECONDS):
            for process, pid in self._pids.items():
                found[process] = max(found.get(process, 0), _anonymous_bytes(pid))

    def settle(self) -> None:
        """Take the round from its submission deadline to where its sum may be released."""
        market, task, chain = self.world.market, self.world.task, self.world.chain
        with self.phase("gather certificates"):
            chain.jump(self.world.opened.submission_deadline)
            self._rest()
        while market.round_settled(task, self.world.opened.round) is None:
            state, now, head = (
                market.round_state(task),
                chain.head_timestamp(),
                chain.head(),
            )
            if state.phase == Phase.OPEN:
                with self.phase("seal"):
                    chain.jump(min(moment for moment in self._moments() if moment > now))
                    self._rest()
                continue
            if state.phase != Phase.SEALED:
                raise RuntimeError("the round was voided")
            blocks = [block for block in self._blocks() if block > head]
            name = "words" if head < CutOffs.of(self.world.view, state).words else "settle"
            with self.phase(name):
                if blocks:
                    chain.mine(min(blocks) - head)
                else:
                    chain.jump(now + WINDOWS.rotation_seconds)
                self._rest()

    def finish(self) -> None:
        """Note what is left at the end."""
        for process, pid in self._pids.items():
            self.figures.peak_bytes[process] = peak_resident_bytes(pid)
        for place, server in enumerate(self.servers, start=1):
            self.figures.disk_bytes[f"server {place}"] = _disk_bytes(server.files.folder / "data")
        self.figures.chain_requests = dict(self.anvil.requests())

    def _moments(self) -> list[int]:
        view, state = self.world.view, self.world.market.round_state(self.world.task)
        turn = next_turn(view, state, self.world.chain.head_timestamp())
        return [
            complaint_cut_off(view, state),
            hearing_cut_off(view, state),
            answer_cut_off(view, state),
            state.seal_deadline if turn is None else turn,
        ]

    def _blocks(self) -> list[int]:
        view, state = self.world.view, self.world.market.round_state(self.world.task)
        cut_offs = CutOffs.of(view, state)
        return [
            state.challenge_final_block,
            *astuple(cut_offs),
            cut_offs.openings + GRACE_BLOCKS,
        ]

    def _rest(self) -> None:
        """Return once every server has looked at the chain as it is and had nothing to do."""
        earlier = [self._steps(server) for server in self.servers]
        while True:
            time.sleep(_LOOK_SECONDS)
            now = [self._steps(server) for server in self.servers]
            if any(_did_something(*pair) for pair in zip(earlier, now, strict=True)):
                earlier = now
            elif all(_looked(*pair) for pair in zip(earlier, now, strict=True)):
                return

    def _steps(self, server: RunningServer) -> dict[str, int]:
        if server.process.poll() is not None:
            raise RuntimeError(f"a server ended: {server.tail()}")
        try:
            answer = httpx.get(server.files.operations + "/metrics", timeout=60)
        except httpx.TransportError:
            return {}
        return {outcome: int(count) for outcome, count in _STEPS.findall(answer.text)}

    def _cpu(self) -> dict[str, float]:
        return {process: cpu_seconds(pid) for process, pid in self._pids.items()}


def _did_something(before: dict[str, int], after: dict[str, int]) -> bool:
    return not before or not after or before.get("changed", 0) != after.get("changed", 0)


def _looked(before: dict[str, int], after: dict[str, int]) -> bool:
    """Tell whether a step ended without a change that had not begun before."""
    steps = sum(after.get(name, 0) - before.get(name, 0) for name in ("unchanged", "failed"))
    return steps > before.get("in_progress", 0)


def play(options: argparse.Namespace, folder: Path) -> Figures:
    """Set everything up in a folder and play one round."""
    figures = Figures(options.owners, options.dimension)
    with ExitStack() as stack:
        anvil = stack.enter_context(counted_anvil(folder))
        world = stack.enter_context(
            submission_world(
                anvil.url,
                folder,
                committee=COMMITTEE,
                dimension=options.dimension,
                max_owners=options.owners,
                windows=WINDOWS,
            )
        )
        _set_pace(world)
        print(f"{options.owners} owners post their bonds", file=sys.stderr, flush=True)
        secrets = [world.new_owner().secret.hex() for _ in range(options.owners)]
        os.environ[VARIABLE] = str(options.profile or folder)
        command = SAMPLED if options.profile else COMMAND
        servers = [_started(stack, RunningServer(files, command)) for files in world.servers]
        for server in servers:
            server.wait_ready()
            world.publish_at(server.files)
        played = Round(world, anvil, servers, figures)
        stop = threading.Event()
        watcher = threading.Thread(target=played.watch, args=(stop,), daemon=True)
        watcher.start()
        given = _given(world, anvil, secrets, folder / "total.npy", options.at_once)
        played.party("owners", "owners", given, folder)
        played.settle()
        played.party("release and recover", "model-owner", given, folder)
        stop.set()
        watcher.join()
        played.finish()
        for server in servers:
            server.stop()
    return figures


def _started(stack: ExitStack, server: RunningServer) -> RunningServer:
    stack.callback(server.kill)
    return server


def _set_pace(world: SubmissionWorld) -> None:
    """Let the servers look at the chain less often than tests want: looks are not what counts."""
    for files in world.servers:
        files.settings["chain"] |= {"poll_seconds": 0.25, "request_seconds": 60}
        files.settings["rounds"] = {"recheck_seconds": 1.0}
        files.settings["log"] = {}
        files.write()


def _given(
    world: SubmissionWorld, anvil: Anvil, secrets: list[str], total: Path, at_once: int
) -> dict[str, Any]:
    return {
        "url": anvil.url,
        "contract": world.market.address.hex(),
        "task": world.task,
        "round": world.opened.round,
        "owners": secrets,
        "at_once": at_once,
        "key": world.buyer_key.secret.hex(),
        "hpke_key": world.buyer_hpke_key.secret.hex(),
        "total": str(total),
    }


def _party(name: str, given: dict[str, Any], folder: Path) -> dict[str, Any]:
    task, result = folder / f"{name}.json", folder / f"{name}-result.json"
    task.write_text(json.dumps(given))
    subprocess.run([sys.executable, str(PARTIES), name, str(task), str(result)], check=True)  # noqa: S603
    found: dict[str, Any] = json.loads(result.read_text())
    return found


def _anonymous_bytes(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return int(text.partition("RssAnon:")[2].split()[0]) << 10


def _disk_bytes(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--owners", type=int, default=20)
    parser.add_argument("--dimension", type=int, default=10_000, help="parameters of a vector")
    parser.add_argument("--at-once", type=int, default=1, help="owners that deliver at a time")
    parser.add_argument("--profile", type=Path, help="folder for samples of the servers' stacks")
    parser.add_argument("--json", type=Path, help="file that gets the figures")
    options = parser.parse_args()
    if options.owners < 2 or options.dimension < 1 or options.at_once < 1:
        parser.error("at least two owners, one parameter, one at a time")
    if anvil_binary() is None:
        print("anvil is missing: make devnet-tools", file=sys.stderr)
        return 3
    if options.profile:
        options.profile.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="scale-") as place:
        figures = play(options, Path(place))
    if options.json:
        options.json.write_text(json.dumps(asdict(figures), indent=1) + "\n")
    _print(figures)
    return 0


def _print(figures: Figures) -> None:
    print(f"{machine()}")
    print(f"{figures.owners} owners, {figures.dimension:,} parameters\n")
    print(f"{'phase':22}{'wall s':>9}{'anvil':>9}{'server CPU s, least and most':>32}")
    for name, phase in figures.phases.items():
        spent = [used for process, used in phase.cpu_seconds.items() if process != "anvil"]
        servers = f"{min(spent):.1f} to {max(spent):.1f}"
        print(f"{name:22}{phase.wall_seconds:9.1f}{phase.cpu_seconds['anvil']:9.1f}{servers:>32}")
    total = sum(phase.wall_seconds for phase in figures.phases.values())
    print(f"{'all':22}{total:9.1f}\n")
    mebibytes: Callable[[int], str] = lambda count: f"{count / 2**20:.0f}"  # noqa: E731
    for process, peak in figures.peak_bytes.items():
        anonymous = figures.anonymous_bytes.get(process, 0)
        disk = figures.disk_bytes.get(process, 0)
        print(f"{process:12} peak {mebibytes(peak)} MiB, without pages of files "
              f"{mebibytes(anonymous)} MiB, disk {mebibytes(disk)} MiB")  # fmt: skip
    for party, found in figures.parties.items():
        seconds = ", ".join(f"{name} {value:.1f}" for name, value in found["seconds"].items())
        print(f"{party:12} peak {mebibytes(found['peak_bytes'])} MiB, CPU "
              f"{found['cpu_seconds']:.1f} s; wall s: {seconds}")  # fmt: skip
    print(f"requests to the chain: {figures.chain_requests}")


if __name__ == "__main__":
    sys.exit(main())
