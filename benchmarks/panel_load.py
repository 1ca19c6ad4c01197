"""Does the panel hold up the control loop: the loop's times with browsers open, and without.

    make bench-panel_load                                  ten pages, three rounds of 20 s each
    make bench-panel_load ARGS="--browsers 3 --rounds 1"

The twin runs free with every node of `record` and the panel at 20 Hz. In turn all pages are empty
for a while, and all show the panel. Times are those at which the driver wrote (DDS source stamps),
less the stamp of the observation. The browsers run only where the processor is idle (SCHED_IDLE):
they stand for other machines, it is the panel that is measured. `late` counts control periods
within an episode that passed without a command. The last line is `panel_load: key=value ...`;
benchmarks/results/panel_load.json keeps the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from operator_panel import FLAGS, RESULTS, ROOT, find_chromium, p99

PERIOD_S = 0.05
SETTLE_S = 3.0  # after the pages changed


class Probe:
    """Hears every joint command: when it was written, and for which observation."""

    def __init__(self, domain: int) -> None:
        """Listen on a thread of its own."""
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.node import Node
        from trajectory_msgs.msg import JointTrajectory

        from resfit_ros import qos

        self.commands: list[tuple[int, int]] = []  # stamp, written [ns]
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        node = Node("panel_load", context=self.context)
        node.create_subscription(JointTrajectory, "joint_command", self._hear, qos.reliable(100))
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(node)
        threading.Thread(target=self._executor.spin, daemon=True).start()

    def _hear(self, msg: Any, info: dict[str, int]) -> None:
        stamp = msg.header.stamp
        self.commands.append((stamp.sec * 10**9 + stamp.nanosec, info["source_timestamp"]))

    def close(self) -> None:
        """Stop listening."""
        self._executor.shutdown()
        self.context.try_shutdown()


def figures(commands: list[tuple[int, int]]) -> dict[str, Any]:
    """Return latencies and missed periods of a stretch."""
    latency = [(written - stamp) / 1e6 for stamp, written in commands]
    steps = np.diff([written for _, written in commands]) / 1e9
    inside = steps[steps < 10 * PERIOD_S]  # longer ones lie between two episodes
    return {
        "commands": len(commands),
        "latency_p50_ms": round(float(np.median(latency)), 2),
        "latency_p99_ms": round(p99(latency), 2),
        "period_p99_ms": round(1e3 * p99(list(inside)), 2),
        "late": int(np.sum(np.round(inside / PERIOD_S) - 1)),
    }


def start(folder: Path, log: Any) -> subprocess.Popen:
    """Start the graph; its front end stops every node when it is interrupted."""
    words = [
        "run", "record", "clock:=realtime", "panel:=true", "panel_port:=0", "keyboard:=false",
        "episodes:=10000", f"run_dir:={folder}",
    ]  # fmt: skip
    command = [sys.executable, "-m", "resfit_bringup.main", *words]
    return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)


def url_of(folder: Path) -> str:
    """Return the panel's address, from its log.

    Raises:
        RuntimeError: It did not come up within two minutes.
    """
    log, end = folder / "logs" / "panel.log", time.monotonic() + 120
    while time.monotonic() < end:
        for line in log.read_text().splitlines() if log.is_file() else ():
            if "panel: http" in line:
                return line.split("panel: ")[1].strip()
        time.sleep(0.2)
    raise RuntimeError(f"the panel did not come up: see {log}")


def measure(browsers: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Run the graph, pages empty and pages open in turn; return the figures of both."""
    from playwright.sync_api import sync_playwright

    from resfit_ros.testing import domain

    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    stretches: dict[str, list[tuple[int, int]]] = {"without": [], "with": []}
    shown = 0
    with domain() as number, tempfile.TemporaryDirectory() as scratch:
        os.environ["ROS_DOMAIN_ID"] = str(number)
        folder = Path(scratch, "run")
        with Path(scratch, "log").open("w") as log:
            graph = start(folder, log)
        # From here on, the probe and the browsers run only where nobody else wants the processor.
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        probe = Probe(number)
        try:
            url = url_of(folder)
            with sync_playwright() as playwright:
                chromium = playwright.chromium.launch(
                    executable_path=find_chromium(), args=list(FLAGS)
                )
                pages = [chromium.new_page() for _ in range(browsers)]
                end = time.monotonic() + 120
                while len(probe.commands) < 50 and time.monotonic() < end:
                    time.sleep(0.2)
                for _ in range(rounds):
                    for name, address in (("without", "about:blank"), ("with", url)):
                        for page in pages:
                            page.goto(address, timeout=120_000)
                        if name == "with":
                            for page in pages:
                                page.wait_for_selector("body[data-phase]", timeout=120_000)
                            shown = len(pages)
                        time.sleep(SETTLE_S)
                        begin = len(probe.commands)
                        time.sleep(seconds)
                        stretches[name] += probe.commands[begin:]
                chromium.close()
        finally:
            graph.send_signal(signal.SIGINT)
            graph.wait(30)
            probe.close()
    if not stretches["with"]:
        raise RuntimeError("no command was heard: see the run's logs")
    return {"browsers": shown, **{name: figures(s) for name, s in stretches.items()}}


def main() -> None:
    """Measure, print, write the JSON."""
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("--browsers", type=int, default=10, help="pages open at once")
    parse.add_argument("--rounds", type=int, default=3, help="each with and without them")
    parse.add_argument("--seconds", type=float, default=20.0, help="of each stretch")
    args = parse.parse_args()
    load = round(os.getloadavg()[0], 1)
    found = measure(args.browsers, args.rounds, args.seconds)
    kept = {
        "name": "panel_load",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load_before": load,
        "time": time.strftime("%Y-%m-%d"),
        **found,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "panel_load.json").write_text(json.dumps(kept, indent=1) + "\n")
    print(f"{'':>18} {'without':>10} {'with':>10}")
    for key in found["with"]:
        print(f"{key:>18} {found['without'][key]:>10} {found['with'][key]:>10}")
    pairs = " ".join(
        f"{key}_{name}={found[name][key]}"
        for key in ("latency_p50_ms", "latency_p99_ms", "late")
        for name in ("without", "with")
    )
    print(f"panel_load: browsers={found['browsers']} {pairs}")


if __name__ == "__main__":
    main()
