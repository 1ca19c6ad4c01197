"""Node `recorder`, the durability boundary: joins steps and answers, writes bags."""

from __future__ import annotations

import array
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NoReturn

from rclpy.serialization import serialize_message

from resfit_core.control.records import EpisodeState, Phase
from resfit_core.data.assembler import EpisodeAssembler, Move
from resfit_core.data.bag_types import BagError
from resfit_core.data.bags import episode_folder, remove_partial
from resfit_core.data.closing import Closed, close_episode, correct, reopen
from resfit_core.data.disk import Disk
from resfit_interfaces import msg as ours
from resfit_interfaces.srv import GetEpisode, GetSteps
from resfit_residual.announcing import Announcer
from resfit_residual.sensor_recording import record_sensors
from resfit_residual.weights_store import store_weights
from resfit_ros import conversions, peek, qos
from resfit_ros.contract import contract_from_parameters
from resfit_ros.node import Node, run_process
from resfit_ros.parameters import ParameterError, declare

_POLL_S = 0.1
_SAY_EVERY_S = 1.0
_INPUTS = ("step", "executed_command")
_SETTLE_S = 0.3  # that a writer is seen here does not say yet that it has seen this reader


class RecorderNode(Node):
    """Keeps serialized messages while an episode runs; a thread of its own writes them.

    What belongs to an episode decides `EpisodeAssembler`. Files, fsync and hashing happen on the
    worker, in the order of the episodes, so that no message waits for the disk.
    """

    def __init__(self, **kwargs: Any) -> None:
        """Open the run's folder; clear what a crash left half written."""
        super().__init__("recorder", **kwargs)
        self._contract = contract_from_parameters(self)
        run_dir = declare(self, "run_dir", "", "folder of the run; required")
        if not run_dir:
            raise ParameterError("parameter 'run_dir' is empty; give the folder of the run")
        patience = declare(
            self, "patience_s", 0.5, "wait for messages under way, and for asked ones [s]",
            range=(0.0, 60.0),
        )  # fmt: skip
        reserve = declare(
            self, "reserve_mb", 100.0, "room that a new bag must leave on the disk [MB]",
            range=(0.0, None),
        )  # fmt: skip
        self._reserve = round(reserve * 1e6)
        self._run_dir = Path(run_dir)
        (self._run_dir / "episodes").mkdir(parents=True, exist_ok=True)
        remove_partial(self._run_dir / "episodes")
        self._assembler: EpisodeAssembler[bytes] = EpisodeAssembler(patience)
        self._sensors = record_sensors(self, self._contract)
        self._states: list[tuple[int, bytes]] = []
        self._states_of = 0  # the episode they are of
        self._newest: Closed | None = None  # announced last
        self._closing = 0  # newest episode handed to the worker with a bag
        self._disk = Disk()
        store_weights(self, self._run_dir, self._contract, self._disk.do)
        self._events_out = self.create_publisher(
            ours.OperatorEvent, "operator_event", qos.reliable(100)
        )
        self.create_subscription(ours.Step, "step", self._on_step, qos.reliable(400), raw=True)
        self.create_subscription(
            ours.ExecutedCommand, "executed_command", self._on_executed, qos.reliable(400),
            raw=True,
        )  # fmt: skip
        self._get_steps = self.create_client(GetSteps, "residual_policy/get_steps")
        self._hears_since: float | None = None
        self._begins = self.create_timer(_POLL_S, self._begin_when_it_hears)

    def _begin_when_it_hears(self) -> None:
        """Appear to the manager only once steps and answers reach this node.

        A recorder that was started anew while the graph runs is otherwise found before the
        driver has found it, the next episode begins, and its first answer is lost for good.
        """
        now = time.monotonic()
        if not all(self.count_publishers(topic) for topic in _INPUTS):
            self._hears_since = None
        elif self._hears_since is None:
            self._hears_since = now
        elif now - self._hears_since >= _SETTLE_S:
            self.destroy_timer(self._begins)
            self._announcer = Announcer(self, self._run_dir)
            self.create_subscription(
                ours.EpisodeState, "episode_state", self._on_state, qos.LATCHED_IN
            )
            self.create_service(GetEpisode, "recorder/get_episode", self._on_get_episode)
            self.create_timer(_POLL_S, self._poll)

    def stop(self) -> None:
        """Let the worker finish what is closing; what the disk refuses is lost, and said."""
        lost = self._disk.stop()
        if lost:
            self.get_logger().error(lost)

    def _on_step(self, data: bytes) -> None:
        self._take("step", peek.step_head, self._assembler.add_step, data)

    def _on_executed(self, data: bytes) -> None:
        self._take("executed_command", peek.executed_head, self._assembler.add_executed, data)

    def _take(self, topic: str, read: Callable, add: Callable, data: bytes) -> None:
        try:
            head = read(data)
        except conversions.ConversionError as error:
            said = f"{topic} dropped: {error}"
            self.get_logger().error(said, throttle_duration_sec=_SAY_EVERY_S)
            return
        add(*head, data)
        if self._assembler.ended is not None:
            self._move()

    def _on_state(self, msg: ours.EpisodeState) -> None:
        state = conversions.episode_state_from_msg(msg)
        # A correction may come while the bag is still on its way to disk.
        closed = state.episode == self._closing or self._is_on_disk(state.episode)
        if state.phase == Phase.ENDED and closed:
            self._on_old_end(state)
            return
        if state.phase == Phase.ENDED and not state.revision and self._is_newest(state.episode):
            self._announcer.announce(self._newest)  # it left no bag, and who asks did not hear it
            return
        self._sensors.is_open = state.phase in (Phase.READY, Phase.RUNNING, Phase.ENDED)
        if state.episode != self._states_of:
            self._states_of = state.episode
            self._states.clear()
        if state.phase in (Phase.RUNNING, Phase.ENDED):
            self._states.append((state.stamp_ns, serialize_message(msg)))
        self._assembler.on_state(state)
        self._move()

    def _is_on_disk(self, episode: int) -> bool:
        return episode_folder(self._run_dir / "episodes", episode).is_dir()

    def _is_newest(self, episode: int) -> bool:
        return self._newest is not None and self._newest.manifest.episode == episode

    def _on_old_end(self, state: EpisodeState) -> None:
        """An episode that was closed already: a corrected verdict, or somebody was restarted."""
        if state.revision > 0:
            self._later(lambda: correct(self._run_dir, state, self._contract))
        else:
            # Who asks again was started anew, or did not hear the announcement.
            self._later(lambda: reopen(self._run_dir, state.episode, self._contract))

    def _poll(self) -> None:
        if self._assembler.abort_reason:
            # Asked again until it is heard: the manager may not be connected yet.
            self._ask_abort()
        owed = self._disk.owed(time.monotonic())
        if owed is not None:
            self._announcer.pending(*owed)
        self._move()

    def _move(self) -> None:
        move = self._assembler.move(time.monotonic())
        if move is Move.CLOSE:
            assembled, states = self._assembler.close(), tuple(self._states)
            self._closing = assembled.state.episode if assembled.steps else 0
            sensors, left_out = self._sensors.take(assembled.stamps_ns)
            missing = f"{left_out} images did not fit into record_most_mb" if left_out else ""
            for words in filter(None, (assembled.reason, missing)):
                self.get_logger().warning(f"episode {assembled.state.episode}: {words}")
            topics = self._sensors.topics
            self._later(
                lambda: close_episode(
                    self._run_dir,
                    assembled,
                    self._contract,
                    states,
                    sensors,
                    topics,
                    self._reserve,
                ),
                closes=assembled.state.episode,
            )
        elif move is Move.ASK:
            missing = self._assembler.missing()
            self.get_logger().warning(
                f"episode {self._assembler.ended.episode}: steps {missing[:10]} are missing, "
                "asking residual_policy"
            )
            if self._get_steps.service_is_ready():
                request = GetSteps.Request(
                    episode=self._assembler.ended.episode, steps=array.array("I", missing)
                )
                self._get_steps.call_async(request).add_done_callback(self.guard(self._on_found))

    def _on_found(self, future: Any) -> None:
        for step in future.result().found:
            data = serialize_message(step)
            self._assembler.add_step(*peek.step_head(data), data)
        self._assembler.answered()
        self._move()

    def _later(self, work: Callable[[], Closed], closes: int = 0) -> None:
        """Do `work` on the disk thread, then announce its result on the executor's thread."""
        if closes:
            self._disk.close(closes, time.monotonic())
        self._disk.do(work, lambda done: self.call_soon(lambda: self._announce(done, closes)))

    def _announce(self, done: Future[Closed], closes: int) -> None:
        self._disk.closed(closes)
        try:
            closed = done.result()
        except BagError as error:
            # What is on disk stays as it is; the run goes on, and the manager says what it lacks.
            self.get_logger().error(str(error))
            return
        self._newest = closed
        self._announcer.announce(closed)

    def _on_get_episode(self, request: GetEpisode.Request, response: Any) -> Any:
        response.success = self._is_on_disk(request.episode)
        if response.success:
            self._later(lambda: reopen(self._run_dir, request.episode, self._contract))
        else:
            response.message = f"episode {request.episode} left no bag in {self._run_dir}"
        return response

    def _ask_abort(self) -> None:
        reason, episode = self._assembler.abort_reason, self._assembler.episode
        self.get_logger().warning(f"asks for abort: {reason}", throttle_duration_sec=_SAY_EVERY_S)
        self._events_out.publish(conversions.abort(self.get_name(), episode, reason))


def main() -> NoReturn:
    """Run the node."""
    run_process(RecorderNode)


if __name__ == "__main__":
    main()
