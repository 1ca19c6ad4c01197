"""Node `episode_manager`: drives the run, episode by episode; leaves with 0 when it is done."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from rclpy.duration import Duration

from resfit_core.algorithms.config import TrainConfig
from resfit_core.blind.seal import read_commitment
from resfit_core.control.budget import LearnerNews, UpdateBudget
from resfit_core.control.episode import EpisodeManager
from resfit_core.control.episode_log import EpisodeLog
from resfit_core.control.episode_parts import Clocks, EpisodeError, EpisodeSettings, Record
from resfit_core.control.plan import PLANS, blind_plan, make_plan
from resfit_core.control.press import Press
from resfit_core.control.records import EpisodeState, Mode, Phase, Source
from resfit_core.control.run_book import RunBook
from resfit_interfaces import msg as ours
from resfit_interfaces.srv import ResetScene
from resfit_ros import conversions, qos
from resfit_ros.contract import contract_from_parameters
from resfit_ros.node import REFUSED, Node, run_process
from resfit_ros.parameters import ParameterError, declare

_LOOK_S = 0.05
# An episode that starts without one of these is lost; who is there is known by what it publishes.
_NEEDED = {
    "base_policy": "policy_step",
    "residual_policy": "step",
    "vega_driver": "executed_command",
    "recorder": "episode_recorded",
}
_FAREWELL_S = 2.0


class EpisodeManagerNode(Node):
    """Wires `EpisodeManager` to topics and to the service that resets the scene."""

    def __init__(self, **kwargs: Any) -> None:
        """Read the plan and the log of the run."""
        super().__init__("episode_manager", **kwargs)
        contract = contract_from_parameters(self)
        run_dir = declare(self, "run_dir", "", "folder of the run; required")
        kind = declare(self, "mode", "train", "what the run is for", choices=PLANS)
        counts = {
            "episodes": declare(
                self, "episodes", 0, "training episodes or demos", range=(0, None)
            ),
            "warmup_episodes": declare(
                self, "warmup_episodes", 0, "how many of them only explore", range=(0, None)
            ),
            "evaluate_episodes": declare(
                self, "evaluate_episodes", 0, "scenes, run once by each policy", range=(0, None)
            ),
            "seed": declare(self, "seed", 0, "of the run's training scenes", range=(0, None)),
        }
        clock = declare(
            self, "clock", "lockstep", "lockstep: the twin keeps the time; realtime: this clock",
            choices=("lockstep", "realtime"),
        )  # fmt: skip
        synchronous = declare(self, "synchronous", False, "the learner takes turns with the robot")
        wait = declare(self, "wait_for_learner", True, "wait while too many updates are owed")
        train_config = declare(
            self, "train_config", "", "learning settings (YAML); empty: defaults"
        )
        auto_start = declare(
            self, "auto_start", True, "start each episode without a person's word"
        )
        auto_reset = declare(
            self, "auto_reset", False, "wait until the driver has gone to the start pose"
        )
        seal = declare(self, "seal", "", "mode evaluate: folder of the evaluation's seal")
        if not run_dir:
            raise ParameterError("parameter 'run_dir' is empty; give the folder of the run")
        learning = TrainConfig.from_yaml(train_config) if train_config else TrainConfig()
        commitment = read_commitment(Path(seal)) if kind == "evaluate" else None
        settings = EpisodeSettings(
            run_id=Path(run_dir).resolve().name,
            lockstep=clock == "lockstep",
            period_ns=round(contract.period_s * 1e9),
            horizon_steps=contract.horizon_steps,
            reaction_ns=round(contract.reaction_time_s * 1e9),
            auto_start=auto_start,
            seal="" if commitment is None else commitment.sha256,
        )
        budget = UpdateBudget(
            max_owed=learning.max_updates_owed, wait=wait, synchronous=synchronous
        )
        book = RunBook(
            make_plan(kind, **counts)
            if commitment is None
            else blind_plan(commitment.scenes, commitment.labels),
            EpisodeLog(run_dir),
            settings.failures_allowed,
            learning.guard(),
        )
        if commitment is not None:
            self.get_logger().info(commitment.said)
        clocks = Clocks(time.monotonic_ns, time.time, lambda: self.get_clock().now().nanoseconds)
        self._manager = EpisodeManager(book, settings, budget, self, clocks)
        self._run_id = settings.run_id
        self._auto_reset, self._at_start = auto_reset, 0
        self._wanted: tuple[int, int] | None = None
        self._said, self._said_at = "", 0.0
        self._open()

    def _open(self) -> None:
        self._states = self.create_publisher(ours.EpisodeState, "episode_state", qos.LATCHED)
        self._scene = self.create_client(ResetScene, "twin/reset_scene")
        for kind, topic, callback, profile in (
            (ours.OperatorEvent, "operator_event", self._on_event, qos.reliable(100)),
            (ours.ExecutedCommand, "executed_command", self._on_executed, qos.reliable(400)),
            (ours.EpisodeRecorded, "episode_recorded", self._on_recorded, qos.reliable(100)),
            (ours.LearnerStatus, "learner_status", self._on_learner, qos.LATCHED_IN),
            (ours.DriverState, "driver_state", self._on_driver, qos.reliable(10)),
        ):
            self.create_subscription(kind, topic, callback, profile)
        self.create_timer(_LOOK_S, self._look)

    def start(self) -> None:
        """Begin the run."""
        self._tell(self._manager.start)

    # --- what the manager says -----------------------------------------------------------------

    def publish(self, state: EpisodeState) -> None:
        """Publish a state; after FINISHED leave, once everybody has heard it."""
        self._states.publish(conversions.episode_state_to_msg(state))
        self.get_logger().debug(f"{Phase(state.phase).name} {state.episode}: {state.reason}")
        if state.phase == Phase.RUNNING and state.mode == Mode.TRAIN and not state.use_residual:
            self.warn(f"episode {state.episode}: {state.reason}")
        if state.phase == Phase.FINISHED:
            self.get_logger().info(f"run finished: {state.reason}")
            self._states.wait_for_all_acked(Duration(seconds=_FAREWELL_S))
            self.finish(0)

    def reset_scene(self, episode: int, seed: int) -> None:
        """Call the twin's service, as soon as it is there."""
        self._wanted = (episode, seed)
        self._ask_for_scene()

    def absent(self) -> str:
        """Return the needed nodes that do not publish, and a robot that is still on its way."""
        missing = [n for n, topic in _NEEDED.items() if not self.count_publishers(topic)]
        if self._auto_reset and self._at_start != self._manager.state.episode:
            missing.append("the robot at its start pose")
        return ", ".join(missing)

    def warn(self, text: str) -> None:
        """Log a warning; one that comes again and again only every few seconds."""
        if text != self._said or time.monotonic() - self._said_at > 5.0:
            self._said, self._said_at = text, time.monotonic()
            self.get_logger().warning(text)

    def _ask_for_scene(self) -> None:
        if self._wanted is None or not self._scene.service_is_ready():
            return
        (episode, seed), self._wanted = self._wanted, None

        def answered(future: Any) -> None:
            answer = future.result()
            first = conversions.stamp_from_msg(answer.first_stamp)
            self._tell(self._manager.scene, episode, answer.success, answer.message, first)

        request = ResetScene.Request(seed=seed, episode=episode)
        self._scene.call_async(request).add_done_callback(self.guard(answered))

    # --- what the manager hears ----------------------------------------------------------------

    def _tell(self, what: Callable[..., None], *args: Any) -> None:
        try:
            what(*args)
        except EpisodeError as error:
            self.fail(error, REFUSED)  # started again it would meet the same

    def _on_event(self, msg: ours.OperatorEvent) -> None:
        if msg.kind in set(Press):
            self._tell(self._manager.event, conversions.event_from_msg(msg))
        else:
            self.warn(f"press of unknown kind {msg.kind} from {msg.source} dropped")

    def _on_executed(self, msg: ours.ExecutedCommand) -> None:
        driven = msg.source == Source.TELEOP
        stamp = conversions.stamp_from_msg(msg.header.stamp)
        self._tell(partial(self._manager.executed, driven=driven), stamp, msg.reasons)

    def _on_recorded(self, msg: ours.EpisodeRecorded) -> None:
        if msg.run_id != self._run_id:
            self.warn(f"episode of run '{msg.run_id}' ignored: this is run '{self._run_id}'")
            return
        lost = "" if msg.complete else msg.reason or "its record is incomplete"
        record = Record(
            msg.episode, msg.steps, msg.weights_version, bool(msg.uri), lost, msg.ended_by,
            msg.revision, msg.pending,
        )  # fmt: skip
        self._tell(self._manager.recorded, record)

    def _on_learner(self, msg: ours.LearnerStatus) -> None:
        news = LearnerNews(msg.state, msg.updates_owed, msg.weights_version, msg.last_episode)
        self._tell(self._manager.learner, news)

    def _on_driver(self, msg: ours.DriverState) -> None:
        self._at_start = msg.start_pose_episode

    def _look(self) -> None:
        self._ask_for_scene()
        self._tell(self._manager.tick)


def main() -> NoReturn:
    """Run the node."""
    run_process(EpisodeManagerNode)


if __name__ == "__main__":
    main()
