"""A panel without a graph, for browser tests: a made-up run that obeys its buttons.

    python panel_desk.py PORT [HOST]

Lines on standard input are commands: `gone NODE`, `back NODE`, `warn TEXT`, `latch`, `quiet`,
`blind LABEL PHASE`.
Each press is answered on standard output as `press NAME`.
"""

from __future__ import annotations

import dataclasses
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from resfit_core.control.press import Press
from resfit_core.control.records import EndedBy, EpisodeState, Mode, Phase
from resfit_reward.panel import server as server_module
from resfit_reward.panel.cameras import Cameras
from resfit_reward.panel.ghost import Ghost
from resfit_reward.panel.health import Driver, Learner
from resfit_reward.panel.server import PanelServer
from resfit_reward.panel.state import PanelState

NODES = ("twin", "vega_driver", "base_policy", "recorder", "learner", "episode_manager")
PRACTICE = 40


class Desk:
    """Plays the graph: 40 episodes are done, the 41st runs."""

    def __init__(self) -> None:
        self.state = PanelState(NODES, time.monotonic())
        self.cameras = Cameras(("zed_left",), 5.0)
        self.ghosts = Ghost(Path(tempfile.mkdtemp()), self.cameras.names)
        self.lock = threading.RLock()
        self.present = set(NODES)
        self.latched = self.quiet = False
        self.commands = 0
        rng = random.Random(0)
        for n in range(1, PRACTICE + 1):
            good = rng.random() < (0.5 if n <= 10 else 0.4 + 0.012 * n)
            mode = Mode.WARMUP if n <= 10 else Mode.TRAIN
            self.say(Phase.ENDED, n, mode, EndedBy.SUCCESS if good else EndedBy.TIMEOUT, "oracle")
        self.number = PRACTICE + 1
        self.say(Phase.RUNNING, self.number, reason="running")
        self.server = None

    def say(self, phase, number, mode=Mode.TRAIN, ended_by=EndedBy.NONE, reason="", revision=0):
        self.present_phase = phase
        self.state.episode(
            EpisodeState(
                phase, number, mode, "made_up_run", ended_by=ended_by, reason=reason or "why",
                credited_step=84 if ended_by else -1, revision=revision, episodes_planned=300,
            ),
            time.monotonic(),
        )  # fmt: skip

    def press(self, button: str) -> None:
        with self.lock:
            kind = self.state.meaning(button)
            print(f"press {kind.name}", flush=True)
            now = time.monotonic()
            self.state.press(kind, "panel", now)
            if kind == Press.ESTOP:
                self.state.estop.press("panel", now)
            elif kind == Press.REARM:
                self.state.estop.rearm()
                self.latched = False
            elif not self.quiet:
                self.obey(kind)
            self.show()

    def obey(self, kind: Press) -> None:
        verdicts = {Press.SUCCESS: EndedBy.SUCCESS, Press.FAILURE: EndedBy.FAILURE,
                    Press.ABORT: EndedBy.ABORTED}  # fmt: skip
        if kind in verdicts and self.present_phase == Phase.RUNNING:
            reason = f"{verdicts[kind].name.lower()} by panel"
            self.say(Phase.ENDED, self.number, ended_by=verdicts[kind], reason=reason)
        elif kind == Press.UNDO and self.present_phase == Phase.ENDED:
            self.say(Phase.ENDED, self.number, ended_by=EndedBy.ABORTED,
                     reason="verdict undone by panel", revision=1)  # fmt: skip
        elif kind in (Press.START, Press.RESUME, Press.RESET_DONE):
            if self.ghosts.shown:
                self.blind(chr(self.number - 900), Phase.RUNNING)
                return
            self.number += self.present_phase == Phase.ENDED
            self.say(Phase.RUNNING, self.number, reason="running")
        elif kind == Press.PAUSE:
            self.say(Phase.PAUSED, self.number, reason="paused by panel")
        elif kind == Press.STOP:
            self.say(Phase.FINISHED, self.number, reason="stopped by panel")
        else:
            self.state.message(
                "episode_manager", f"{kind.name} from panel ignored: no episode is running",
                error=False,
            )  # fmt: skip

    def picture(self, camera: str):
        return self.cameras.ask(camera, time.monotonic())

    def ghost(self, camera: str):
        return self.ghosts.picture(camera)

    def blind(self, label: str, phase: Phase) -> None:
        """Play an episode of a blind evaluation's first round."""
        self.number, self.present_phase = 900 + ord(label), phase
        state = EpisodeState(
            phase, self.number, Mode.EVALUATE, "made_up_run", reason="waits for: RESET_DONE",
            seal="5" * 64, round=1, label=label, episodes_planned=300,
        )  # fmt: skip
        self.state.episode(state, time.monotonic())
        self.ghosts.state(state, time.monotonic())

    def show(self) -> None:
        if self.server is not None:
            view = self.state.view(time.monotonic())
            self.server.show(dataclasses.replace(view, ghosts=self.ghosts.shown))

    def tick(self) -> None:
        with self.lock:
            now = time.monotonic()
            if self.state.estop.due(now):
                self.latched = not self.quiet
            self.commands += 4
            mode = 3 if self.latched else 1
            self.state.driver(
                Driver(mode, "e-stop" * self.latched, self.commands, 12, 0, 0, 0.021), now
            )
            self.state.learner(
                Learner(
                    2, "", 5000, 4900, 1.0, 0.98, 100, 55.0, 12, 2e-4, 0.61, -0.55, 3000, 5000
                ),
                now,
            )
            self.state.nodes(self.present)
            self.state.cameras(self.cameras.names)
            image = np.zeros((180, 320, 3), np.uint8)
            image[:, : int(now * 50) % 320] = (40, 120, 90)
            if self.cameras.watched(now):
                self.cameras.put("zed_left", image, now)
            if self.ghosts.wanted:
                self.ghosts.image("zed_left", image, now)
            self.show()

    def command(self, line: str) -> None:
        word, _, rest = line.strip().partition(" ")
        with self.lock:
            if word == "gone":
                self.present.discard(rest)
            elif word == "back":
                self.present.add(rest)
            elif word == "warn":
                self.state.message("recorder", rest, error=False)
            elif word == "blind":  # `blind A RUNNING`
                label, phase = rest.split()
                self.blind(label, Phase[phase])
            elif word in ("quiet", "loud"):
                self.quiet = word == "quiet"


def main() -> None:
    server_module.TOO_LATE_S = 7.0  # the tests' pages wait longer as well
    desk = Desk()
    server = PanelServer(desk, *(sys.argv[2:3] or ["127.0.0.1"]), int(sys.argv[1]))
    print(f"url {server.start()}", flush=True)
    desk.server = server

    def beat() -> None:
        while True:
            desk.tick()
            time.sleep(0.1)

    threading.Thread(target=beat, daemon=True).start()
    for line in sys.stdin:
        desk.command(line)


if __name__ == "__main__":
    main()
