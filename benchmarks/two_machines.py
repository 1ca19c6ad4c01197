"""A learner on another machine, and what a bad link between the two loses.

    tools/env.sh python benchmarks/two_machines.py            # 60 s cut, 200 ms each way, 1 % loss
    tools/env.sh python benchmarks/two_machines.py --seconds 5 --cut 5       # a look
    tools/env.sh python benchmarks/two_machines.py --static-peers            # without multicast

Two network namespaces, each with shared memory and run folder of its own, joined by a bridge of
this process that drops or delays Ethernet frames. In one of them `resfit run train
learner:=external` trains in lock-step on the twin, in the other `resfit run learner` learns with
the small nets of `kill_train.yaml`. At the end every episode fit for training that was closed on
the robot must be in the learner's checkpoint, once. Needs /dev/net/tun and root (or user
namespaces). The last line counts lost episodes by the phase in which they were closed;
`robot_paused_s` is the
longest time without a newly closed episode during the cut. Results:
benchmarks/results/two_machines.json.
"""

from __future__ import annotations

import argparse
import collections
import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kill_check import read_all

from resfit_core import tensorfile
from resfit_core.data.bags import list_episodes

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/results/two_machines.json"
CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWNET = 0x10000000, 0x00020000, 0x40000000
TUNSETIFF, IFF_TAP_NO_PI = 0x400454CA, 0x1002
_START_S, _END_S, _CATCH_UP_S, _STOP_S = 120.0, 15.0, 90.0, 60.0
NOT_PERMITTED = 3
"""Exit status where this machine permits no namespaces."""


@dataclass
class Phase:
    """What the link does for a while."""

    name: str
    seconds: float
    delay_s: float = 0.0
    loss: float = 0.0


class Side:
    """One machine: a process group in namespaces of its own, behind one end of the link."""

    def __init__(self, address: str, words: list[str], log: Path) -> None:
        """Start `words` there.

        Raises:
            OSError: No namespace or no TAP device could be made.
        """
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.pid = os.fork()
        if not self.pid:
            try:
                _enter(there, address, log)
                os.execvp(words[0], words)
            except (OSError, subprocess.CalledProcessError) as error:
                there.send(f"{error}"[:200].encode())
            os._exit(1)
        there.close()
        said, files, _, _ = socket.recv_fds(here, 200, 1)
        here.close()
        if not files:
            os.waitpid(self.pid, 0)
            raise OSError(said.decode() or "the namespace could not be made")
        self.tap = files[0]

    def ended(self) -> bool:
        """Whether its front end is gone."""
        if self.pid and os.waitpid(self.pid, os.WNOHANG)[0]:
            self.pid = 0
        return not self.pid


def _enter(sock: socket.socket, address: str, log: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    root = os.geteuid() == 0
    if libc.unshare(CLONE_NEWNET | CLONE_NEWNS | (0 if root else CLONE_NEWUSER)):
        raise OSError(ctypes.get_errno(), "unshare")
    for words in (
        "mount --make-rprivate /", "mount -t tmpfs none /dev/shm", "ip link set lo up",
    ):  # fmt: skip
        subprocess.run(words.split(), check=True)
    tap = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22s", b"tap0", IFF_TAP_NO_PI, b""))
    for words in (f"ip addr add {address}/24 dev tap0", "ip link set tap0 up"):
        subprocess.run(words.split(), check=True)
    os.setsid()
    with log.open("ab") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    socket.send_fds(sock, [b"x"], [tap])


class Link:
    """Carries frames between the two; cuts, delays and drops them."""

    def __init__(self, one: Side, other: Side) -> None:
        """Join two machines."""
        self._to = {one.tap: other.tap, other.tap: one.tap}
        self._queue: list[tuple[float, int, int, bytes]] = []
        self._dice, self.frames, self.dropped = random.Random(0), 0, 0

    def carry(self, phase: Phase, for_s: float) -> None:
        """Carry for so long [s]."""
        until = time.monotonic() + for_s
        while (now := time.monotonic()) < until:
            while self._queue and self._queue[0][0] <= now:
                _, _, tap, frame = heapq.heappop(self._queue)
                os.write(tap, frame)
            due = self._queue[0][0] - now if self._queue else until - now
            for tap in select.select(list(self._to), [], [], max(0.0, min(due, until - now)))[0]:
                frame, self.frames = os.read(tap, 65536), self.frames + 1
                if self._dice.random() < phase.loss:
                    self.dropped += 1
                    continue
                at = time.monotonic() + phase.delay_s
                heapq.heappush(self._queue, (at, self.frames, self._to[tap], frame))


class Bench:
    """The two halves of one run, the link, and what was seen."""

    def __init__(self, out: Path, domain: str, *, static: bool = False) -> None:
        """Start both halves.

        Args:
            out: Empty folder.
            domain: ROS_DOMAIN_ID.
            static: Each names the other as its only peer instead of looking by multicast.

        Raises:
            OSError: This machine permits no namespaces.
        """
        self.robot, self.workstation = out / "robot/cup", out / "workstation/cup"
        reach = "LOCALHOST" if static else "SUBNET"
        os.environ.update(
            ROS_DOMAIN_ID=domain, ROS_AUTOMATIC_DISCOVERY_RANGE=reach, OMP_NUM_THREADS="1"
        )
        os.chdir(ROOT)
        addresses = ("10.77.0.1", "10.77.0.2")
        same = ("task:=woolly_ball_pnp", f"train_config:={ROOT}/benchmarks/kill_train.yaml")
        robot = ("train", "learner:=external", "episodes:=100000", "keyboard:=false")
        halves = (
            ((*robot, "report:=false"), self.robot, _made(out / "robot.log")),
            (("learner",), self.workstation, _made(out / "workstation.log")),
        )
        self.sides = []
        for own, other, (words, run, log) in zip(
            addresses, reversed(addresses), halves, strict=True
        ):
            peer = (f"ROS_STATIC_PEERS={other}",) if static else ()
            command = ["env", *peer, "tools/env.sh", "resfit", "run", *words, f"run_dir:={run}"]
            self.sides.append(Side(own, [*command, *same], log))
        self.link = Link(*self.sides)

    def closed(self) -> set[str]:
        """Names of the episodes closed on the robot."""
        return {path.name for path in list_episodes(self.robot)} if self.robot.is_dir() else set()

    def learned(self) -> tuple[int, int]:
        """Episodes and updates that the learner last spoke of."""
        file = self.workstation / "learner.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        for line in reversed(lines):
            try:
                said = json.loads(line)
            except ValueError:
                continue  # half written
            return int(said["episodes"]), int(said["updates"])
        return 0, 0

    def until(self, done: Callable[[], bool], limit_s: float) -> bool:
        """Let a sound link carry until `done`; return whether that came in time."""
        end = time.monotonic() + limit_s
        while not done():
            if time.monotonic() > end:
                return False
            self.link.carry(Phase("sound", 0), 0.2)
        return True

    def play(self, phase: Phase) -> dict[str, Any]:
        """Play one phase; return what was seen."""
        before, updates = self.closed(), self.learned()[1]
        known, news = set(before), time.monotonic()
        longest, end = 0.0, time.monotonic() + phase.seconds
        while time.monotonic() < end:
            self.link.carry(phase, 0.1)
            now, closed = time.monotonic(), self.closed()
            longest = max(longest, now - news)
            if closed != known:
                known, news = closed, now
        return {
            "phase": phase.name,
            "seconds": phase.seconds,
            "closed": sorted(known - before),
            "updates": self.learned()[1] - updates,
            "longest_pause_s": round(longest, 2),
        }

    def stop(self) -> None:
        """Ctrl-C for the robot; when the learner has caught up, for the learner."""
        robot, workstation = self.sides
        _interrupt(robot)
        self.until(robot.ended, _STOP_S)
        seen, still = self.learned(), time.monotonic()

        def settled() -> bool:
            nonlocal seen, still
            if self.learned() != seen:
                seen, still = self.learned(), time.monotonic()
            return time.monotonic() - still > 5

        self.until(settled, _CATCH_UP_S)
        _interrupt(workstation)
        self.until(workstation.ended, _STOP_S)

    def kill(self) -> None:
        """Leave nothing behind, whatever happened."""
        for side in self.sides:
            if not side.ended():
                os.killpg(side.pid, signal.SIGKILL)
                os.waitpid(side.pid, 0)


def compare(robot: Path, workstation: Path) -> tuple[set[str], int, list[str]]:
    """Return episodes lost, episodes doubled, and what else was wrong, from the files of both."""
    problems: list[tuple[str, str]] = []
    wanted = read_all(robot, {path.name: path for path in list_episodes(robot)}, problems)
    file = workstation / "checkpoints/learner.safetensors"
    _, header = tensorfile.unpack(file.read_bytes(), str(file))
    held = collections.Counter(header["replay"]["online"])
    lost = {f"episode_{n:06d}" for n, episode in wanted.items() if episode.sha256 not in held}
    known = {episode.sha256 for episode in wanted.values()}
    doubled = sum(n - 1 for n in held.values()) + sum(sha not in known for sha in held)
    return lost, doubled, [text for _, text in problems]


def _made(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def _interrupt(side: Side) -> None:
    if not side.ended():
        os.kill(side.pid, signal.SIGINT)


def main() -> int:
    """Run it; return the exit status: 1 where an episode was lost or doubled."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cut", type=float, default=60.0, help="[s]")
    parser.add_argument("--seconds", type=float, default=30.0, help="of the other phases")
    parser.add_argument("--domain", default="77", help="ROS_DOMAIN_ID, inside the namespaces")
    parser.add_argument(
        "--static-peers", action="store_true", help="name each other instead of multicast"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    phases = [
        Phase("calm", given.seconds),
        Phase("cut", given.cut, loss=1.0),
        Phase("after", given.seconds),
        Phase("latency", given.seconds, delay_s=0.2),
        Phase("loss", given.seconds, loss=0.01),
    ]
    with tempfile.TemporaryDirectory(prefix="resfit_two_machines_") as folder:
        try:
            bench = Bench(Path(folder), given.domain, static=given.static_peers)
        except OSError as error:
            print(f"no network namespaces here: {error}", file=sys.stderr)
            return NOT_PERMITTED
        try:
            if not bench.until(lambda: bench.learned()[1] > 0, _START_S):
                print("the learner never learned", file=sys.stderr)
                for side in ("robot", "workstation"):
                    log = (Path(folder) / f"{side}.log").read_text()[-2000:]
                    print(f"--- {side}\n{log}", file=sys.stderr)
                return 1
            rows = []
            for phase in phases:
                print(f"  {phase.name}, {phase.seconds:.0f} s", file=sys.stderr, flush=True)
                rows.append(bench.play(phase))
            closed = bench.closed()
            bench.link.carry(Phase("sound", 0), _END_S)
            bench.stop()
        finally:
            bench.kill()
        lost, doubled, problems = compare(bench.robot, bench.workstation)
        # What was closed in the robot's last seconds comes with its next start (docs/network.md).
        return report(rows, lost & closed, doubled, problems, given.out)


def report(
    rows: list[dict[str, Any]], lost: set[str], doubled: int, problems: list[str], out: Path
) -> int:
    """Print and write the results; return the exit status."""
    print(f"{'phase':10} {'s':>5} {'closed':>7} {'lost':>5} {'updates':>8} {'pause [s]':>10}")
    for row in rows:
        row["lost"] = len(lost.intersection(row["closed"]))
        row["closed"] = len(row["closed"])
        print(
            f"{row['phase']:10} {row['seconds']:5.0f} {row['closed']:7} {row['lost']:5} "
            f"{row['updates']:8} {row['longest_pause_s']:10.2f}"
        )
    by_name = {row["phase"]: row for row in rows}
    total = {
        "lost": len(lost),
        **{f"{name}_lost": by_name[name]["lost"] for name in ("cut", "latency", "loss")},
        "doubled": doubled,
        "robot_paused_s": by_name["cut"]["longest_pause_s"],
    }
    for text in problems:
        print(text, file=sys.stderr)
    result = {**total, "load_1min": os.getloadavg()[0], "rows": rows, "problems": problems}
    _made(out).write_text(json.dumps(result, indent=1) + "\n")
    print("two_machines: " + " ".join(f"{key}={value}" for key, value in total.items()))
    return int(bool(lost or doubled or problems))


if __name__ == "__main__":
    sys.exit(main())
