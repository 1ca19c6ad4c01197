"""The operator's side in figures: reward assignment, press to state, state to the panel's page.

    make bench-operator                                1,000 episodes, 100 presses, one browser
    make bench-operator ARGS="--presses 300 --browsers 10"

1. Random presses (`src/resfit_reward/test/press_trial.py`): how many rewards lie on a wrong step.
2. Episode manager and panel as processes of their own, in real time, the robot played at 20 Hz.
   Each press is an HTTP request to the panel; it ends when this process hears the EpisodeState.
3. The same press, until the page in a headless Chromium shows the new state. Without Chromium and
   Playwright (`make test-panel` installs them) this is left out and the figure is `none`.

The last line is `operator: key=value ...`; the figures go to benchmarks/results/operator.json.
(The file is not called operator.py: Python's own module of that name would be shadowed.)
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PERIOD_S = 0.05
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update")  # fmt: skip
# Notes when the page's text became what it is waited for; both clocks are this machine's.
WATCH = """() => {
  window.seen = [];
  const look = () => {
    const phase = document.querySelector(".phase");
    if (phase && phase.textContent !== window.last) {
      window.last = phase.textContent;
      window.seen.push([window.last, Date.now() / 1000]);
    }
  };
  const all = {childList: true, subtree: true, characterData: true};
  new MutationObserver(look).observe(document.body, all);
  look();
}"""


def find_chromium() -> str:
    """Return the browser's path.

    Raises:
        RuntimeError: There is none.
    """
    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), "")
    if not path:
        raise RuntimeError("Chromium is missing: make test-panel installs it")
    return path


def p99(values: list[float]) -> float:
    """Return the 99th percentile, the largest value where there are fewer than a hundred."""
    return sorted(values)[min(len(values) - 1, int(0.99 * len(values)))]


def presses_in_class(episodes: int, seed: int) -> tuple[int, int]:
    """Return rewards on a wrong step, and episodes."""
    sys.path.insert(0, str(ROOT / "src/resfit_reward/test"))
    import press_trial

    tally = press_trial.run(seed, episodes)
    for text in tally.wrong[:5]:
        print(text)
    return len(tally.wrong), tally.episodes


class Robot:
    """Plays twin, policies, driver and recorder for a real episode manager, in real time."""

    def __init__(self, context: Any) -> None:
        """Open what the manager needs."""
        from rclpy.node import Node

        from resfit_interfaces import msg, srv
        from resfit_ros import qos

        self.msg, self.node = msg, Node("robot", context=context)
        self.state, self.heard_s, self.done = None, 0.0, threading.Event()
        make = self.node.create_publisher
        self.executed = make(msg.ExecutedCommand, "executed_command", qos.reliable(400))
        self.recorded = make(msg.EpisodeRecorded, "episode_recorded", qos.reliable(100))
        self.others = [make(msg.PolicyStep, "policy_step", 10), make(msg.Step, "step", 10)]
        self.driver = make(msg.DriverState, "driver_state", qos.reliable(10))
        self.node.create_subscription(
            msg.EpisodeState, "episode_state", self.on_state, qos.LATCHED_IN
        )
        self.node.create_service(srv.ResetScene, "twin/reset_scene", self.on_reset)
        self.node.create_timer(PERIOD_S, self.step)

    def on_reset(self, _: Any, response: Any) -> Any:
        """Every scene is ready at once."""
        response.success = True
        return response

    def on_state(self, state: Any) -> None:
        """Note when an episode has ended."""
        self.state = state
        if state.phase == state.ENDED:
            self.heard_s = time.time()
            self.done.set()

    def close(self) -> None:
        """Close the episode that ended."""
        state = self.state
        self.recorded.publish(
            self.msg.EpisodeRecorded(
                run_id=state.run_id, episode=state.episode, steps=state.credited_step + 1,
                uri="none", complete=True,
            )
        )  # fmt: skip

    def step(self) -> None:
        """Answer one tick while an episode runs."""
        if self.state is not None and self.state.phase == self.state.RUNNING:
            done = self.msg.ExecutedCommand()
            done.header.stamp = self.node.get_clock().now().to_msg()
            self.executed.publish(done)

    @property
    def running(self) -> bool:
        """Whether an episode runs."""
        return self.state is not None and self.state.phase == self.state.RUNNING


class Page:
    """The panel in Chromium; `browsers` of them, the first is measured."""

    def __init__(self, url: str, browsers: int) -> None:
        """Open the pages.

        Raises:
            RuntimeError: Playwright or Chromium is missing; the text says which.
        """
        try:
            from playwright.sync_api import sync_playwright
        except ImportError as error:
            raise RuntimeError("Playwright is missing: make test-panel installs it") from error
        self._playwright = sync_playwright().start()
        self._browser = self._playwright.chromium.launch(
            executable_path=find_chromium(), args=list(FLAGS)
        )
        self._pages = [self._browser.new_page() for _ in range(browsers)]
        for page in self._pages:
            page.goto(url, timeout=120_000)
            page.wait_for_selector(".phase", timeout=120_000)
        self._pages[0].evaluate(WATCH)

    def shown_at(self, word: str, after_s: float) -> float | None:
        """Return when the page showed the word for the first time after a moment [s]."""
        for _ in range(60):
            for text, at in self._pages[0].evaluate("() => window.seen"):
                if text == word and at >= after_s - 0.001:
                    return at
            self._pages[0].wait_for_timeout(50)
        return None

    def close(self) -> None:
        """Close the browser."""
        self._browser.close()
        self._playwright.stop()


def node(module: str, log: Any, **parameters: Any) -> subprocess.Popen:
    """Start one node as a process."""
    words = [w for k, v in parameters.items() for w in ("-p", f"{k}:={v}")]
    command = [sys.executable, "-m", module, "--ros-args", *words]
    return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT)


def through_nodes(presses: int, browsers: int) -> dict[str, Any]:
    """Press so often on the panel; return the times in milliseconds."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    from resfit_ros.testing import domain

    files = {
        "robot_file": ROOT / "config/robot/vega_1.yaml",
        "task_file": ROOT / "config/task/woolly_ball_pnp.yaml",
    }
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    with domain() as number, tempfile.TemporaryDirectory() as folder:
        os.environ["ROS_DOMAIN_ID"] = str(number)
        context = rclpy.Context()
        rclpy.init(context=context, domain_id=number)
        robot = Robot(context)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(robot.node)
        threading.Thread(target=executor.spin, daemon=True).start()
        log = Path(folder, "log")
        with log.open("w") as out:
            nodes = [
                node("resfit_reward.panel_node", out, panel_port=0, clock="realtime", **files),
                node("resfit_reward.episode_manager_node", out, clock="realtime",
                     run_dir=f"{folder}/run", episodes=presses + 50, wait_for_learner=False,
                     **files),
            ]  # fmt: skip
            try:
                return press_all(robot, url_in(log), presses, browsers)
            finally:
                for process in nodes:
                    process.terminate()
                for process in nodes:
                    process.wait(10)
                executor.shutdown()
                rclpy.shutdown(context=context)


def url_in(log: Path) -> str:
    """Return the address that the panel printed."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        for line in log.read_text().splitlines():
            if "panel: http" in line:
                return line.split("panel: ")[1].strip()
        time.sleep(0.1)
    raise RuntimeError(f"the panel did not come up: {log.read_text()}")


def press_all(robot: Robot, url: str, presses: int, browsers: int) -> dict[str, Any]:
    """Press in each episode once; return the times in milliseconds."""
    page, why = None, ""
    try:
        page = Page(url, browsers) if browsers else None
    except RuntimeError as error:
        why = str(error)
        print(f"the page is not measured: {why}")
    to_state, to_page = [], []
    try:
        for _ in range(presses):
            wait(lambda: robot.running)
            time.sleep(0.35)  # steps that a reaction time of 0.2 s can credit
            robot.done.clear()
            pressed_s = time.time()
            request = urllib.request.Request(f"{url}/api/press/SUCCESS", method="POST")
            urllib.request.urlopen(request, timeout=10).close()
            if not robot.done.wait(5):
                raise RuntimeError("a press was not answered within 5 s")
            to_state.append(1e3 * (robot.heard_s - pressed_s))
            shown_s = page.shown_at("ENDED", pressed_s) if page else None
            if shown_s is not None:
                to_page.append(1e3 * (shown_s - pressed_s))
            robot.close()
    finally:
        if page is not None:
            page.close()
    return {
        "press_to_state_ms": summary(to_state),
        "panel_ms": summary(to_page) if to_page else None,
        "panel_missed": len(to_state) - len(to_page) if page else None,
        "panel_note": why,
    }


def wait(holds: Any) -> None:
    """Wait for it, at most 30 s."""
    end = time.monotonic() + 30
    while not holds():
        if time.monotonic() > end:
            raise RuntimeError("no episode ran within 30 s")
        time.sleep(0.005)


def summary(values: list[float]) -> dict[str, float]:
    """Return median, p99 and largest."""
    found = {"median": statistics.median(values), "p99": p99(values), "largest": max(values)}
    return {**{k: round(v, 2) for k, v in found.items()}, "n": len(values)}


def main() -> None:
    """Measure, print, write the JSON."""
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("--episodes", type=int, default=1000, help="of random presses")
    parse.add_argument("--presses", type=int, default=100, help="through the nodes")
    parse.add_argument("--browsers", type=int, default=1, help="pages open meanwhile; 0: none")
    parse.add_argument("--seed", type=int, default=1)
    parse.add_argument("--name", default="operator", help="of the JSON")
    args = parse.parse_args()
    wrong, episodes = presses_in_class(args.episodes, args.seed)
    times = through_nodes(args.presses, args.browsers)
    found = {
        "name": args.name,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load": round(os.getloadavg()[0], 1),
        "time": time.strftime("%Y-%m-%d"),
        "browsers": args.browsers,
        "wrong_rewards": wrong,
        "of": episodes,
        **times,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{args.name}.json").write_text(json.dumps(found, indent=1) + "\n")
    for key in ("press_to_state_ms", "panel_ms"):
        print(f"{key}: {found[key]}")
    panel = found["panel_ms"]["p99"] if found["panel_ms"] else "none"
    print(
        f"operator: press_to_state_p99_ms={found['press_to_state_ms']['p99']} panel_ms={panel} "
        f"wrong_rewards={wrong} of={episodes}"
    )


if __name__ == "__main__":
    main()
