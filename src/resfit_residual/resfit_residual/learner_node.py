"""Node `learner`: closed episodes in, weights out. A thread learns, the executor talks."""

from __future__ import annotations

import array
import dataclasses
import os
import time
from pathlib import Path
from threading import Event, Thread
from typing import Any, NoReturn

from resfit_core import tensorfile
from resfit_core.algorithms.config import TrainConfig
from resfit_core.base.checkpoint import load_base
from resfit_core.best import Score
from resfit_core.build import build_learner
from resfit_core.control.records import EndedBy, Mode, Phase
from resfit_core.data.episode import EpisodeError
from resfit_core.data.intake import EpisodeIntake
from resfit_core.learner_session import FAILED, LearnerSession, SessionSettings, Status
from resfit_interfaces import msg as ours
from resfit_interfaces.srv import GetEpisode
from resfit_residual.scalars import ScalarWriter
from resfit_ros import conversions, priority, qos
from resfit_ros.contract import contract_from_parameters
from resfit_ros.node import FAILED as EXIT_FAILED
from resfit_ros.node import REFUSED, Node, run_process
from resfit_ros.parameters import ParameterError, declare

_NICE = 5  # the control loop goes first
_STATUS_S = 0.5
_STOP_S = 3.0


class LearnerNode(Node):
    """Puts messages into `LearnerSession` and its results into messages."""

    def __init__(self, **kwargs: Any) -> None:
        """Build the learner; refuse in words what does not fit together."""
        super().__init__("learner", **kwargs)
        contract = contract_from_parameters(self)
        base_name = declare(self, "base", "", "frozen base policy that demos are relabelled with")
        demos = declare(self, "demos", "", "folder of demonstration bags; empty: none")
        train_config = declare(self, "train_config", "", "learning settings; empty: defaults")
        run_dir = declare(self, "run_dir", "", "folder of the run; required")
        seed = declare(self, "seed", 0, "seed of the run", range=(0, None))
        self._clock_kind = declare(
            self, "clock", "lockstep", "lockstep: the twin waits; realtime: all others go first",
            choices=("lockstep", "realtime"),
        )  # fmt: skip
        synchronous = declare(self, "synchronous", False, "the learner takes its turn: same run")
        publish_s = declare(
            self, "publish_every_s", 10.0, "longest time between weights while training [s]",
            range=(0.1, None),
        )  # fmt: skip
        every = declare(
            self, "checkpoint_every", 10, "episodes between checkpoints", range=(1, None)
        )
        keep = declare(
            self, "keep_weights", 10, "versions of weights on disk; 0: all", range=(0, None)
        )
        for name, value in (("base", base_name), ("run_dir", run_dir)):
            if not value:
                raise ParameterError(f"parameter '{name}' is empty; give its path")
        kept_states = declare(
            self, "checkpoint_keep", 3, "checkpoints kept, besides the best", range=(1, None)
        )
        config = TrainConfig.from_yaml(train_config) if train_config else TrainConfig()
        config = config.replace(seed=seed)
        base = load_base(base_name, contract)
        learner = build_learner(config, contract, base)
        self._hashes = {"contract_sha256": contract.sha256, "base_sha256": base.base_sha256}
        settings = SessionSettings(
            Path(run_dir), Path(demos) if demos else None, synchronous, publish_s, every,
            kept_states, keep_weights=keep,
        )  # fmt: skip
        self._session = LearnerSession(learner, base, contract, settings, self)
        self._intake = EpisodeIntake()
        self._run_id = Path(run_dir).resolve().name
        self._scalars = ScalarWriter(Path(run_dir) / "tensorboard" / "learner", self.warn)
        self._stop = Event()
        self._thread = Thread(target=self._learn, name="learner", daemon=True)
        self._closing = False
        self._weights_out = self.create_publisher(
            ours.PolicyWeights, "policy_weights", qos.LATCHED
        )
        self._status_out = self.create_publisher(ours.LearnerStatus, "learner_status", qos.LATCHED)
        self.create_subscription(
            ours.RecordedSteps, "recorded_steps", self._on_steps, qos.reliable(100)
        )
        self.create_subscription(
            ours.EpisodeRecorded, "episode_recorded", self._on_recorded, qos.reliable(100)
        )
        self.create_subscription(
            ours.EpisodeState, "episode_state", self._on_state, qos.LATCHED_IN
        )
        self._get_episode = self.create_client(GetEpisode, "recorder/get_episode")
        self.create_timer(_STATUS_S, self._on_timer)

    def start(self) -> None:
        """Begin to load and learn."""
        self._thread.start()

    def stop(self) -> None:
        """Save and end the thread, within a bounded time."""
        self._stop.set()
        self._session.wake()
        if self._thread.is_alive():
            self._thread.join(timeout=_STOP_S)
        self._scalars.close()

    # --- messages in, on the executor's thread -------------------------------------------------

    def _is_of_this_run(self, msg: ours.RecordedSteps | ours.EpisodeRecorded) -> bool:
        if msg.run_id == self._run_id:
            return True
        self.get_logger().warning(
            f"episode of run '{msg.run_id}' ignored: this is run '{self._run_id}'",
            throttle_duration_sec=5.0,
        )
        return False

    def _on_steps(self, msg: ours.RecordedSteps) -> None:
        if not self._is_of_this_run(msg):
            return
        try:
            episode = self._intake.add(
                msg.episode, msg.revision, msg.piece, msg.pieces, bytes(msg.data), msg.sha256
            )
        except EpisodeError as error:
            self.get_logger().error(str(error))
            self._intake.expect(msg.episode, msg.revision, time.monotonic())
            return
        if episode is not None:
            self._session.submit(episode)

    def _on_recorded(self, msg: ours.EpisodeRecorded) -> None:
        if not self._is_of_this_run(msg) or msg.pending:
            return
        if msg.mode == Mode.EVALUATE and msg.use_residual and msg.ended_by != EndedBy.ABORTED:
            success = msg.ended_by == EndedBy.SUCCESS
            self._session.submit(Score(msg.episode, msg.weights_version, success))
        if msg.complete:
            self._intake.expect(msg.episode, msg.revision, time.monotonic())
        else:
            self._intake.forget(msg.episode)
            self._session.submit(int(msg.episode))

    def _on_state(self, msg: ours.EpisodeState) -> None:
        between = msg.phase in (Phase.IDLE, Phase.PAUSED)  # `episode` is closed
        self._intake.heard_of(msg.episode + between, time.monotonic())
        # Before an evaluation, in a pause and at the end nothing new comes: time to save.
        self._closing = between or msg.mode == Mode.EVALUATE
        self._session.save_when_settled(self._closing and not self._intake.waits)

    def _on_timer(self) -> None:
        self._publish_status(self._session.newest)
        self._session.save_when_settled(self._closing and not self._intake.waits)
        if not self._intake.link(self._get_episode.service_is_ready(), time.monotonic()):
            return
        for number in self._intake.to_ask(time.monotonic()):
            future = self._get_episode.call_async(GetEpisode.Request(episode=number))
            future.add_done_callback(self.guard(lambda done, n=number: self._on_answer(n, done)))

    def _on_answer(self, number: int, future: Any) -> None:
        answer = future.result()
        if self._intake.answered(number, answer.success):
            self._do_without(number, answer.message or "it was asked for in vain")

    def _do_without(self, number: int, why: str) -> None:
        self.get_logger().warning(f"episode {number} is left out: {why}")
        self._intake.forget(number)
        # Seen all the same: the manager must not wait for it for ever.
        self._session.submit(number)

    # --- the session's outlet, called on its thread --------------------------------------------

    def status(self, status: Status) -> None:
        """Publish a snapshot."""
        self.call_soon(lambda: self._publish_status(status))

    def weights(self, version: int, data: bytes, updates: int) -> None:
        """Publish weights."""
        msg = ours.PolicyWeights(
            header=conversions.header(self.get_clock().now().nanoseconds),
            version=version,
            data=array.array("B", data),
            sha256=tensorfile.sha256(data),
            updates=updates,
            **self._hashes,
        )
        self.call_soon(lambda: self._weights_out.publish(msg))

    def taken(self, episode: int, revision: int) -> None:
        """Note an episode that is in, so that it is not asked for."""
        self.call_soon(lambda: self._intake.have(episode, revision))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Plot values over environment steps."""
        self._scalars.add(step, values)

    def warn(self, text: str) -> None:
        """Log a warning."""
        self.get_logger().warning(text)

    def _learn(self) -> None:
        # On Linux this holds for the calling thread alone: status and start-up are not slowed.
        priority.go_last() if self._clock_kind == "realtime" else os.nice(_NICE)
        try:
            self._session.run(self._stop)
        except Exception as error:
            # Said on the topic as well: the manager stops waiting for this learner.
            failed = dataclasses.replace(self._session.newest, state=FAILED, message=str(error))
            code = REFUSED if isinstance(error, ValueError) else EXIT_FAILED
            cause = error

            def leave() -> None:
                self._publish_status(failed)
                self.fail(cause, code)

            self.call_soon(leave)

    def _publish_status(self, status: Status) -> None:
        out = ours.LearnerStatus(header=conversions.header(self.get_clock().now().nanoseconds))
        for name, value in dataclasses.asdict(status).items():
            setattr(out, name, type(getattr(out, name))(value))
        self._status_out.publish(out)


def main() -> NoReturn:
    """Run the node."""
    run_process(LearnerNode)


if __name__ == "__main__":
    main()
