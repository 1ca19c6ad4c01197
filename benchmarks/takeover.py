"""Hand-overs and hand-backs at random moments: how far targets jump, in both clocks.

    make bench-takeover ARGS="--handovers 100"

The driver's core with the robot's contract and safety file; a policy and a person that swing every
joint, each in its own way, far apart where hands change. The robot follows its
targets at its velocity limits; in real time it is measured at 100 Hz. Some changes come by silence
of the switch, some between two episodes, where the driver ticks by itself. Nothing is timed: the
figures are the same on every machine.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np

from resfit_core import machine
from resfit_core.action_space import ActionSpace
from resfit_core.contract import Contract, load_contract
from resfit_core.control.answers import Answer
from resfit_core.control.driver import DriverCore
from resfit_core.control.records import Source
from resfit_core.control.reset_motion import load_start

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "results" / "takeover.json"
MS = 1_000_000
MEASURED_NS = 10 * MS
DEADMAN_S = 0.3
SWING_RAD = 0.25  # of policy and person around the start pose


class Swing:
    """Joint targets that swing around a pose, each joint at its own rate."""

    def __init__(self, around: np.ndarray, contract: Contract, rng: np.random.Generator) -> None:
        """Draw rates and phases."""
        self._around, self._contract = around, contract
        self._rate, self._phase = (
            rng.uniform(0.05, 0.4, (len(around),)),
            rng.uniform(0, 7, len(around)),
        )

    def at(self, seconds: float) -> np.ndarray:
        """Return the targets [rad]. Shape: (action_dim,)."""
        swing = SWING_RAD * np.sin(2 * np.pi * self._rate * seconds + self._phase)
        return np.clip(self._around + swing, self._contract.lower, self._contract.upper)


class Robot:
    """The driver with a robot behind it; counts changes of hands and the largest steps."""

    def __init__(self, contract: Contract, home: np.ndarray, *, exact: bool) -> None:
        """Stand at the start pose."""
        self.contract, self.exact = contract, exact
        self.core = DriverCore(
            contract, ActionSpace.from_limits(contract), exact=exact, deadman_timeout_s=DEADMAN_S
        )
        self.period_ns = round(contract.period_s * 1e9)
        self.limit = contract.velocity * contract.period_s
        self.now = self.stamp = 10_000 * MS
        self.position, self.target = home.copy(), home.copy()
        self.sent: np.ndarray | None = None
        self.source: int | None = None
        self.changes: Counter[str] = Counter()
        self.most = self.most_at_change = 0.0
        self.sources: Counter[str] = Counter()
        self._measure()

    def pass_period(self) -> None:
        """Let one control period pass."""
        steps = self.period_ns // MEASURED_NS
        for _ in range(steps):
            self.now += MEASURED_NS
            reach = self.contract.velocity * MEASURED_NS / 1e9
            self.position += np.clip(self.target - self.position, -reach, reach)
            if not self.exact:
                self.stamp += MEASURED_NS
                self._measure()
                self._obey(self.core.watch(self.now))
        if self.exact:
            self.stamp += self.period_ns
            self._measure()

    def policy(self, target: np.ndarray) -> None:
        """One tick of the policy."""
        names = self.contract.joint_names
        self._obey(self.core.command(self.stamp, names, target, self.now))

    def own(self) -> None:
        """One tick of the driver's own."""
        self._obey(self.core.drive(self.now))

    def _measure(self) -> None:
        for stream in range(len(self.contract.wrenches)):
            self.core.wrench(stream, self.stamp, np.zeros(6), self.now)
        noise = 1e-6 * np.sin(self.now / MS)  # no encoder is still to the last bit
        self.core.measured(self.stamp, self.position + noise, self.now)

    def _obey(self, answer: Answer | None) -> None:
        if answer is None or not answer.send:
            return
        executed = answer.executed
        if self.sent is not None:
            step = float(np.max(np.abs(executed.action_rad - self.sent) / self.limit))
            self.most = max(self.most, step)
            if executed.source != self.source:
                names = [Source(s).name.lower() for s in (self.source, executed.source)]
                self.changes[" to ".join(names)] += 1
                self.most_at_change = max(self.most_at_change, step)
        self.sources[Source(executed.source).name.lower()] += 1
        self.sent, self.source, self.target = (
            executed.action_rad,
            executed.source,
            executed.action_rad,
        )


def play(contract: Contract, home: np.ndarray, handovers: int, seed: int, *, exact: bool) -> Robot:
    """Hand over and back so often, and return the robot with what it counted."""
    rng = np.random.default_rng([seed, exact])
    robot = Robot(contract, home, exact=exact)
    policy, person = (Swing(home, contract, rng) for _ in range(2))

    def tick(seconds: float, *, held: bool | None, speaks: bool, policy_ticks: bool) -> None:
        robot.pass_period()
        if held is not None:
            robot.core.deadman(held, robot.now)
        if speaks:
            robot.core.teleop(0, contract.joint_names, person.at(seconds), robot.now)
        if policy_ticks:
            robot.policy(policy.at(seconds))
        else:
            robot.own()

    period, step = contract.period_s, 0
    for _ in range(handovers):
        between = not exact and rng.random() < 0.25  # between two episodes nobody else ticks
        silent = rng.random() < 0.2
        for _ in range(int(rng.integers(2, 40))):
            tick(step * period, held=False, speaks=False, policy_ticks=not between)
            step += 1
        for _ in range(int(rng.integers(2, 60))):
            tick(step * period, held=True, speaks=True, policy_ticks=not between)
            step += 1
        for _ in range(10 * silent):  # the switch falls silent: the robot holds
            tick(step * period, held=None, speaks=False, policy_ticks=not between)
            step += 1
    return robot


def main() -> int:
    """Measure, print, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--handovers", type=int, default=100, help="in each clock")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    task = ROOT / "config/task/woolly_ball_pnp.yaml"
    contract = load_contract(ROOT / "config/robot/vega_1.yaml", task)
    home = load_start(task, contract).poses[-1]
    found, over, total = {}, 0.0, 0
    for exact, name in ((True, "lockstep"), (False, "realtime")):
        robot = play(contract, home, args.handovers, args.seed, exact=exact)
        found[name] = {
            "changes": dict(robot.changes),
            "ticks": dict(robot.sources),
            "largest_step_share_of_limit": robot.most,
            "largest_step_at_a_change": robot.most_at_change,
        }
        total += args.handovers
        over = max(over, robot.most)
        print(
            f"{name}: {sum(robot.changes.values())} changes of hands, largest step "
            f"{robot.most:.3f} of velocity limit x period, at a change {robot.most_at_change:.3f}"
        )
        for change, count in sorted(robot.changes.items()):
            print(f"  {change}: {count}")
    result = {
        "handovers": total,
        "seed": args.seed,
        "deadman_timeout_s": DEADMAN_S,
        "max_step_over_limit": over,
        "clocks": found,
        "machine": machine.versions(),
    }
    OUT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"takeover: handovers={total} handbacks={total} max_step_over_limit={over:.3f} of=1.000")
    return 0 if over <= 1 + 1e-6 else 1


if __name__ == "__main__":
    raise SystemExit(main())
