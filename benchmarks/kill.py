"""Kill nodes of a training run at random moments, 200 times, and look for what got lost.

    tools/env.sh python benchmarks/kill.py                 # goes on where it was stopped
    tools/env.sh python benchmarks/kill.py --compare --runs 3 --train-config default \
        --episodes 134 --out runs/bench_kill_compare       # and undisturbed runs beside them

Real nodes, lock-step, SIGKILL. Four kinds of moment: any; while a checkpoint, a bag, weights or a
log is half written (its temporary file is there); right after its rename; and the whole process
group, front end included. A killed driver, twin or front end ends the run, and so does a node that
died too often: the bench resumes it by `run_dir:=`, as a person would. Each finished run is then
checked from its files (`kill_check.py`). Every kill and every finding is one line in
`<out>/kills.jsonl` at once.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kill_check import Seen, check_run
from kill_compare import compare

ROOT = Path(__file__).resolve().parents[1]
NODES = (
    "base_policy", "residual_policy", "recorder", "learner", "vega_driver", "reward_button",
    "episode_manager", "twin", "panel",
)  # fmt: skip
FRONT = "front_end"  # the whole group: `resfit run` and all its nodes
TRAPS = {
    # name: (who is killed, folder below the run, pattern, wait for it to be renamed)
    "mid_checkpoint": ("learner", "checkpoints/kept", ".learner*.partial", False),
    "mid_rename": ("learner", "checkpoints", ".learner*.partial", False),
    "mid_buffer": ("learner", "checkpoints/episodes", ".*.partial", False),
    "checkpoint_renamed": ("learner", "checkpoints/kept", ".learner*.partial", True),
    "mid_weights": ("learner", "weights", ".version_*.partial", False),
    "weights_renamed": ("learner", "weights", ".version_*.partial", True),
    "mid_bag": ("recorder", "episodes", ".episode_*.partial", False),
    "bag_renamed": ("recorder", "episodes", ".episode_*.partial", True),
    "log_written": ("episode_manager", ".", "episode_open.json", True),
}
_TRAP_S = 15.0  # a trap that does not close in this time becomes a kill at any moment
_POLL_S = 0.0005
_SETTLE_S = 240.0


class Run:
    """One training run, its front end started anew as often as it ends before its time."""

    def __init__(self, folder: Path, words: list[str], seen: Seen, nice: int) -> None:
        """Start it, or go on with it."""
        self._prefix = ["nice", "-n", str(nice)] if nice else []
        self.folder, self._words, self.seen = folder, words, seen
        self._process: subprocess.Popen | None = None
        self.starts = 0
        self.code: int | None = None

    def ensure(self) -> bool:
        """Start the front end if it is not running; return whether the run is finished."""
        if self._process is not None and (code := self._process.poll()) is not None:
            self.code, self._process = code, None
            _wait_until_gone(self.folder)
            if code == 0:
                return True
        if self._process is None:
            self.starts += 1
            command = [
                *self._prefix, sys.executable, "-m", "resfit_bringup.main", "run", "train",
                f"run_dir:={self.folder}", *self._words,
            ]  # fmt: skip
            with open(self.folder.parent / f"{self.folder.name}.log", "a") as log:
                self._process = subprocess.Popen(
                    command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log,
                    stderr=subprocess.STDOUT, start_new_session=True,
                )  # fmt: skip
        return False

    def pids(self) -> dict[str, int]:
        """Return the processes of the run by node."""
        if self._process is None:
            return {}
        found = {}
        for child in _children(self._process.pid):
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
                for word in words:
                    if word.startswith(b"__node:=") and words[0] != b"setpriv":
                        found[word[8:].decode()] = child
        return found

    def kill(self, who: str) -> bool:
        """SIGKILL a node, or the front end with all below it; return whether it was there."""
        with contextlib.suppress(ProcessLookupError):
            if who == FRONT:
                if self._process is None:
                    return False
                below = list(self.pids().values())
                for pid in (self._process.pid, *below):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                return True
            pid = self.pids().get(who)
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
                return True
        return False

    def stop(self) -> None:
        """End it in order."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(20)
            if self._process.poll() is None:
                self.kill(FRONT)
                self._process.wait()
            self._process = None


def _children(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(OSError):
            yield from (int(word) for word in (task / "children").read_text().split())


def _wait_until_gone(folder: Path) -> None:
    """Wait until no process of the run is left: a new front end must not meet an old node."""
    needle, until = f"{folder}/".encode(), time.monotonic() + 30
    while time.monotonic() < until:
        left = False
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                left |= needle in file.read_bytes() and int(file.parent.name) != os.getpid()
        if not left:
            return
        time.sleep(0.2)
    raise RuntimeError(f"processes of {folder} do not end")


def _trap(run: Run, name: str) -> tuple[str, bool]:
    """Wait for the moment that `name` names; return who is to be killed and whether it came."""
    who, below, pattern, renamed = TRAPS[name]
    folder, until = run.folder / below, time.monotonic() + _TRAP_S
    before = set(folder.glob(pattern)) if folder.is_dir() else set()
    while time.monotonic() < until:
        there = set(folder.glob(pattern)) if folder.is_dir() else set()
        new = there - before
        if new:
            path = new.pop()
            while renamed and path.exists() and time.monotonic() < until:
                time.sleep(_POLL_S)
            return who, True
        before = there
        time.sleep(_POLL_S)
        if run._process is None or run._process.poll() is not None:
            break
    return who, False


def _episodes(folder: Path) -> int:
    file = folder / "episodes.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


class Bench:
    """Kills until the wanted number is reached, run after run, and writes as it goes."""

    def __init__(self, given: argparse.Namespace) -> None:
        """Read what an earlier start of the bench wrote."""
        self._given, self._out = given, given.out.resolve()
        self._out.mkdir(parents=True, exist_ok=True)
        self._file = self._out / "kills.jsonl"
        self.lines: list[dict[str, Any]] = []
        if self._file.exists():
            self.lines = [json.loads(line) for line in self._file.read_text().splitlines()]
        self._dice = random.Random(given.seed * 1000 + len(self.lines))

    @property
    def kills(self) -> list[dict[str, Any]]:
        """Return the kills done."""
        return [line for line in self.lines if line["what"] == "kill"]

    @property
    def checked(self) -> list[dict[str, Any]]:
        """Return the runs that were checked."""
        return [line for line in self.lines if line["what"] == "run"]

    def note(self, **line: Any) -> None:
        """Write a line and keep it."""
        line = {"time": time.strftime("%H:%M:%S"), **line}
        self.lines.append(line)
        with self._file.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(" ".join(f"{k}={v}" for k, v in line.items()), flush=True)

    def go(self) -> None:
        """Do runs until enough kills are done, each to its end and its check."""
        given = self._given
        while len(self.kills) < given.kills or len(self.checked) < given.runs:
            self._one(len(self.checked))

    def _one(self, number: int) -> None:
        given = self._given
        folder = self._out / f"run_{number}"
        words = [
            f"seed:={given.seed + number}", f"episodes:={given.episodes}", "evaluate_episodes:=2",
            f"train_config:={given.train_config}", "keyboard:=false", "report:=false",
            "video:=false", "panel:=true", "panel_port:=0", f"params_file:={self._often()}",
        ]  # fmt: skip
        # With `--runs` each run gets its share, so that none is left alone.
        most = math.ceil(given.kills * min(1, (number + 1) / max(1, given.runs)))
        seen = Seen(self._out / f"seen_{number}.json")
        run = Run(folder, words, seen, given.nice)
        begin = time.monotonic()
        try:
            while not run.ensure():
                if len(self.kills) < most:
                    self._kill_once(run)
                else:
                    time.sleep(0.5)
                    seen.look(folder)
                if run.starts > given.kills + 20:
                    raise RuntimeError(f"{folder} does not finish: look at its logs")
        finally:
            run.stop()
        found = check_run(folder, seen)
        self.note(what="run", run=number, starts=run.starts, episodes=_episodes(folder),
                  wall_s=round(time.monotonic() - begin), **found)  # fmt: skip

    def _often(self) -> Path:
        """Return a file of parameters: a checkpoint after every other episode."""
        file = self._out / "often.yaml"
        file.write_text("learner: {ros__parameters: {checkpoint_every: 2}}\n")
        return file

    def _kill_once(self, run: Run) -> None:
        dice, given = self._dice, self._given
        run.seen.look(run.folder)
        self._wait_for_work(run)
        if run._process is None or run._process.poll() is not None:
            return
        # Most of the time the run goes on from where the last kill left it.
        time.sleep(dice.expovariate(1 / given.every_s))
        run.seen.look(run.folder)
        trap, came = "any", True
        if dice.random() < given.traps:
            trap = dice.choice(sorted(TRAPS))
            who, came = _trap(run, trap)
            if not came:
                trap = "any"
        if trap == "any" or not came:
            who = dice.choice((*NODES, FRONT))
        if run.kill(who):
            inside = trap.startswith("mid") and any(
                (run.folder / TRAPS[trap][1]).glob(TRAPS[trap][2])
            )
            self.note(what="kill", n=len(self.kills) + 1, who=who, moment=trap, inside=inside,
                      run=run.folder.name, episodes=_episodes(run.folder))  # fmt: skip

    def _wait_for_work(self, run: Run) -> None:
        """Wait until all nodes run and an episode was logged since, or strike at once."""
        if self._dice.random() < self._given.at_once:
            return
        until = time.monotonic() + _SETTLE_S
        wanted, episodes = set(NODES), _episodes(run.folder)
        while time.monotonic() < until:
            if run._process is None or run._process.poll() is not None:
                return
            run.seen.look(run.folder)
            if wanted <= set(run.pids()) and _episodes(run.folder) > episodes:
                return
            time.sleep(0.2)

    def table(self) -> None:
        """Print what was killed when."""
        count = collections.Counter((k["who"], k["moment"]) for k in self.kills)
        print(f"{'node':18}{'moment':22}kills")
        for (who, moment), n in sorted(count.items()):
            print(f"{who:18}{moment:22}{n}")
        inside = sum(bool(k["inside"]) for k in self.kills)
        print(f"{inside} of them left a half-written file behind")


def main() -> int:
    """Run the bench."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "bench_kill")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--episodes", type=int, default=20, help="training episodes of a run")
    parser.add_argument(
        "--runs", type=int, default=1, help="at least so many seeds, the kills shared out to them"
    )
    parser.add_argument("--every-s", type=float, default=1.0, help="mean wait before a kill [s]")
    parser.add_argument("--traps", type=float, default=0.4, help="share of placed kills")
    parser.add_argument(
        "--at-once", type=float, default=0.25,
        help="share of kills that do not wait until the graph is whole again",
    )  # fmt: skip
    parser.add_argument(
        "--train-config", default=str(ROOT / "benchmarks" / "kill_train.yaml"),
        help="as `resfit run train`; the default has small nets; for --compare give default",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--nice", type=int, default=0, help="of the run")
    parser.add_argument("--compare", action="store_true", help="undisturbed as well")
    parser.add_argument("--scenes", type=int, default=200, help="evaluation scenes of --compare")
    given = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(130))
    bench = Bench(given)
    bench.go()
    bench.table()
    totals = {
        key: sum(run[key] for run in bench.checked) for key in ("lost", "doubled", "corrupt")
    }
    result: dict[str, Any] = {
        "kills": len(bench.kills),
        "lost": totals["lost"],
        "doubled": totals["doubled"],
        "corrupt_accepted": totals["corrupt"],
        "by_moment": collections.Counter(k["moment"] for k in bench.kills),
        "by_node": collections.Counter(k["who"] for k in bench.kills),
        "left_half_written": sum(bool(k["inside"]) for k in bench.kills),
        "runs": bench.checked,
        "train_config": Path(given.train_config).name,
        "load_average": os.getloadavg()[1],
    }
    if given.compare:
        result["compare"] = compare(given.out.resolve(), given, len(bench.checked))
    name = "kill_compare.json" if given.compare else "kill.json"
    file = ROOT / "benchmarks" / "results" / name
    file.write_text(json.dumps(result, indent=1) + "\n")
    print(
        "kill: "
        + " ".join(f"{k}={result[k]}" for k in ("kills", "lost", "doubled", "corrupt_accepted"))
    )
    return 0 if not (totals["lost"] or totals["doubled"] or totals["corrupt"]) else 1


if __name__ == "__main__":
    sys.exit(main())
