"""Train MLP, LeNet and ResNet-20 with malicious owners, with and without validation.

Run it from the repository with `.venv/bin/python benchmarks/experiments/accuracy.py`; `make
experiments` does, before the baselines. Every row is in `docs/experiments/accuracy-DATASET.json` as
soon as it is there, and a row that is there is not computed again: a stopped run goes on, and
`--fresh` starts anew. `--quick` takes two minutes and keeps its rows apart. MNIST and CIFAR-10 are
read from a folder with their standard files: `--dataset mnist --folder DIR`.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from experiment_report import final_accuracy, plot, table, with_section
from experiment_settings import MODELS, TRAININGS, Run, all_runs
from experiment_store import Store
from experiment_training import train

from omnilytics.demo.result import machine
from omnilytics.learning.threads import pin_threads

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "experiments.md"
RESULTS = ROOT / "docs" / "experiments"
QUICK_RESULTS = ROOT / "omnilytics-experiments"
DATASETS = tuple(sorted({dataset for dataset, _ in TRAININGS}))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, then write the table and the plots."""
    options = _options(arguments)
    folder = options.output or (QUICK_RESULTS if options.quick else RESULTS)
    path = folder / f"accuracy-{options.dataset}.json"
    if options.fresh:
        path.unlink(missing_ok=True)
    store = Store(path)
    models = tuple(options.model or MODELS)
    runs = all_runs(options.dataset, models, quick=options.quick)
    compute(runs, store, options.workers, options.folder)
    rows = store.rows(run.key for run in runs)
    text = f"{machine()}; {options.dataset}\n\n{table(rows)}"
    print(text)
    for model in models:
        plot(rows, model, folder / f"accuracy-{options.dataset}-{model}.png")
    if options.write:
        written = with_section(
            DOCUMENT.read_text(encoding="utf-8"), f"accuracy {options.dataset}", text
        )
        DOCUMENT.write_text(written, encoding="utf-8")


def compute(runs: Sequence[Run], store: Store, workers: int, folder: Path | None = None) -> None:
    """Train what the store does not have, `workers` at a time; every row is kept at once."""
    missing = [run for run in runs if run.key not in store]
    print(f"{len(runs)} runs, {len(missing)} of them to do, {workers} at a time", flush=True)
    if not missing:
        return
    start = time.monotonic()
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=pin_threads
    ) as pool:
        waiting = {pool.submit(train, run, folder): run for run in missing}
        try:
            for number, done in enumerate(as_completed(waiting), start=1):
                run, row = waiting[done], done.result()
                store.add(run.key, row)
                passed = time.monotonic() - start
                print(
                    f"{number}/{len(missing)} {passed:.0f}s {run.key}: {final_accuracy([row]):.3f}",
                    flush=True,
                )
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--dataset", choices=DATASETS, default="digits")
    parser.add_argument("--folder", type=Path, help="of the files of MNIST or CIFAR-10")
    parser.add_argument("--model", action="append", choices=MODELS, help="all by default")
    parser.add_argument("--quick", action="store_true", help="fewer runs and rounds: two minutes")
    parser.add_argument("--fresh", action="store_true", help="forget the rows that are there")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--output", type=Path, help="folder of rows and plots")
    parser.add_argument("--write", action="store_true", help=f"the table into {DOCUMENT.name}")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
