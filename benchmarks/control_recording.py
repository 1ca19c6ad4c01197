"""What recording costs the control loop: late ticks with and without it, side by side.

    make bench-recording                        # 3 stretches of each, 12 minutes
    make bench-recording ARGS="--ticks 200 --pairs 1"          # a look

The graph of `control_loop.py` at 20 Hz with `pixels`, beside its learner, in turn with the
recorder (`record:=cameras`: two streams of 640 x 360 at 30 Hz, besides steps, actions and numbers)
and without that process: with, without, with … Every stretch continues a copy of one run, so that
the learner has the same experience at the start and never rests. Without a recorder the bench
tells the episode manager that each episode is closed, or no next one would begin; then the learner
gets nothing new, so that taking in episodes counts among what recording costs.

Late ticks and times are those of `control_loop.py`; those of the last line are over all stretches
of a kind: `p99_ms` from base action to joint command, in milliseconds. Results:
benchmarks/results/control_recording.json.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
from control_graph import Bench, Site
from control_loop import Probe, late_pct, lateness, spread, summary, write

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/results/control_recording.json"
RATE_HZ, OBSERVATION = 20, "pixels"
_BEFORE = 40  # ticks of the run that all stretches continue: its learner has begun by then


def play(site: Site, run_dir: Path, record: str, ticks: int) -> tuple[Bench, Probe] | None:
    """Run the graph for so many ticks; None where there was none.

    Args:
        site: Of the graph.
        run_dir: New, or to be continued.
        record: As the argument of `resfit run`; empty: without the recorder.
        ticks: To be heard.
    """
    bench = Bench(site, run_dir, record)
    probe = Probe(site.contract, bench.cpu_s, "" if record else run_dir.name)
    bench.run(threading.Thread(target=probe.watch, args=(ticks, bench.stop), daemon=True))
    if len(probe.ticks) < ticks:
        bench.tell()
        return None
    return bench, probe


def stretch(
    site: Site, before: Path, record: str, ticks: int
) -> tuple[dict[str, Any], np.ndarray] | None:
    """Continue a copy of the run `before`; return what was measured, and the ticks (n, 5)."""
    with tempfile.TemporaryDirectory(prefix="stretch_", dir=before.parents[1]) as folder:
        run_dir = Path(folder) / before.name
        shutil.copytree(before, run_dir)
        had = _bytes(run_dir)
        found = play(site, run_dir, record, ticks)
        if found is None:
            return None
        row = {
            "recorder": bool(record),
            "recorded_mb": round((_bytes(run_dir) - had) / 1e6),
            **summary(RATE_HZ, OBSERVATION, found[1]),
        }
        return row, np.array(found[1].ticks, np.int64)


def _bytes(run_dir: Path) -> int:
    return sum(file.stat().st_size for file in (run_dir / "episodes").rglob("*.mcap"))


def pooled(stretches: list[np.ndarray]) -> dict[str, Any]:
    """Return lateness and times of several stretches together."""
    counts = [(late, len(gaps)) for late, gaps in (lateness(RATE_HZ, t) for t in stretches)]
    late, gaps = (sum(column) for column in zip(*counts, strict=True))
    ticks = np.concatenate(stretches)
    return {
        "ticks": len(ticks),
        "late": late,
        "late_pct": late_pct(late, gaps),
        "base_to_command_ms": spread((ticks[:, 4] - ticks[:, 3]) / 1e6),
        "camera_to_command_ms": spread((ticks[:, 4] - ticks[:, 2]) / 1e6),
    }


def show(row: dict[str, Any]) -> None:
    """Print one line of the table."""
    times = row["stages_ms"]
    print(
        f"{'with' if row['recorder'] else 'without':8} {row['ticks']:6} {row['late']:5} "
        f"{row['late_pct']:7} {times['base action -> joint command published']['p99']:9.2f} "
        f"{times['camera stamp -> joint command published']['p99']:11.2f} "
        f"{row['dropped']:8} {row['learner_cpu_pct']:8} {row['recorder_cpu_pct']:9} "
        f"{row['recorded_mb']:6}",
        flush=True,
    )


def main() -> int:
    """Measure all stretches; return 1 where one did not run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ticks", type=int, default=1800, help="of a stretch")
    parser.add_argument("--pairs", type=int, default=3, help="stretches of each kind")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    heard: dict[str, list[np.ndarray]] = {"with": [], "without": []}
    with tempfile.TemporaryDirectory(prefix="recording_") as name:
        folder = Path(name)
        (folder / "site").mkdir()
        site = Site(folder / "site", RATE_HZ, OBSERVATION)
        before = folder / "before/run"
        if play(site, before, "numbers", _BEFORE) is None:
            return 1
        print(
            f"{RATE_HZ} Hz, {OBSERVATION}; times: p99 [ms]; CPU: % of a core\n"
            f"recorder  ticks  late  late %  base>cmd  camera>cmd  dropped  learner  "
            "recorder     MB"
        )
        for kind in ("with", "without") * given.pairs:
            found = stretch(site, before, "cameras" if kind == "with" else "", given.ticks)
            if found is None:
                return 1
            rows.append(found[0])
            heard[kind].append(found[1])
            show(found[0])
            write(given.out, rows)  # what is measured stays, whatever comes
    both = {kind: pooled(stretches) for kind, stretches in heard.items()}
    write(given.out, rows, **both)
    print(
        f"recording: ticks={min(len(np.concatenate(ticks)) for ticks in heard.values())} "
        + " ".join(f"late_pct_{kind}={found['late_pct']}" for kind, found in both.items())
        + "".join(
            f" {figure}_{kind}={found[key]['p99']}"
            for figure, key in (
                ("p99_ms", "base_to_command_ms"),
                ("camera_p99_ms", "camera_to_command_ms"),
            )
            for kind, found in both.items()
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
