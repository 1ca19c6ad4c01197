"""One run's learning, from start to end: demos, checkpoint, closed episodes, updates, weights.

Everything but the transport: the learner node runs :meth:`LearnerSession.run` in a thread and
turns the outlet's calls into messages.
"""

from __future__ import annotations

import dataclasses
import json
import queue
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any, Protocol

from resfit_core import checkpoint, tensorfile
from resfit_core.base.protocol import BasePolicy
from resfit_core.base.relabel import relabel_folder
from resfit_core.best import BestKeeper, Score
from resfit_core.contract import Contract, ContractError
from resfit_core.data.bag_reader import newest_verdict, read_episode
from resfit_core.data.bag_types import BagError
from resfit_core.data.bags import list_episodes, read_manifest
from resfit_core.data.episode import EVALUATE, Episode, EpisodeError
from resfit_core.data.replay import ReplayError
from resfit_core.doctor import live
from resfit_core.learner import Learner
from resfit_core.run_log import append_line
from resfit_core.weights import KEEP, newest_version, save_weights

STARTING, WAITING, TRAINING, FAILED, SAVED = 0, 1, 2, 3, 4
"""States, with the numbers of `LearnerStatus.state`."""

STATE_WORDS = ("starting", "waiting", "training", "failed", "saved")
_SLICE_S = 0.2
_SAVE_AGAIN_S = 30.0  # after the disk refused
_RATE_WINDOW_S = 5.0
_EXAMINED_EVERY_S = 30.0


@dataclasses.dataclass(frozen=True)
class Status:
    """A snapshot of the learner; the fields of `LearnerStatus`."""

    state: int = STARTING
    message: str = ""
    episodes: int = 0
    last_episode: int = 0
    env_steps: int = 0
    updates: int = 0
    utd_target: float = 0.0
    utd_achieved: float = 0.0
    updates_owed: int = 0
    updates_per_s: float = 0.0
    weights_version: int = 0
    critic_loss: float = 0.0
    q_mean: float = 0.0
    actor_loss: float = 0.0
    demo_steps: int = 0
    online_steps: int = 0

    def line(self, now_s: float) -> str:
        """Return the line of `learner.jsonl`; `now_s` is Unix wall time [s]."""
        numbers = dataclasses.asdict(self)
        numbers["state"] = STATE_WORDS[self.state]
        return json.dumps({"time_s": round(now_s, 3), **numbers}) + "\n"


@dataclasses.dataclass(frozen=True)
class SessionSettings:
    """How the session runs.

    Attributes:
        run_dir: Folder of the run: checkpoints, weights, episodes, `learner.jsonl`.
        demos: Folder of demonstration bags; None: none.
        synchronous: The learner takes its turn between episodes: weights are published only when
            nothing is owed, so that the same run gives the same versions.
        publish_every_s: Otherwise weights are published at least so often while training [s].
        checkpoint_every: Checkpoint after so many episodes.
        checkpoint_keep: So many of the last checkpoints are kept, and the best by evaluation.
        log_every_s: Time between two lines of `learner.jsonl` [s].
        status_every_s: Time between two status messages while training [s].
        keep_weights: Versions of the weights that stay on disk; 0: all.
    """

    run_dir: Path
    demos: Path | None = None
    synchronous: bool = False
    publish_every_s: float = 10.0
    checkpoint_every: int = 10
    checkpoint_keep: int = 3
    log_every_s: float = 2.0
    status_every_s: float = 0.5
    keep_weights: int = KEEP


class Outlet(Protocol):
    """Where the session's results go; called from the session's thread."""

    def status(self, status: Status) -> None:
        """Tell the newest snapshot."""

    def weights(self, version: int, data: bytes, updates: int) -> None:
        """Publish weights."""

    def taken(self, episode: int, revision: int) -> None:
        """Note that an episode is in (from disk as well)."""

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Plot values over environment steps."""

    def warn(self, text: str) -> None:
        """Say something that a person should read."""


class LearnerSession:
    """Feed it with `submit` from any thread; everything else belongs to the thread of `run`."""

    def __init__(
        self,
        learner: Learner,
        base: BasePolicy,
        contract: Contract,
        settings: SessionSettings,
        outlet: Outlet,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; nothing is read before `run`."""
        self._learner, self._base, self._contract = learner, base, contract
        self._settings, self._outlet, self._clock = settings, outlet, clock
        self._inbox: queue.SimpleQueue[Episode | int | Score | None] = queue.SimpleQueue()
        self._version = 0
        self._published_updates = -1
        self._published_s = self._told_s = self._logged_s = float("-inf")
        self._saved_episodes, self._no_save_before_s = 0, float("-inf")
        self._best: BestKeeper | None = None
        self._unsaved = True  # something was learned since the newest checkpoint
        self._wants_saved = False
        self._fresh = False  # something came while there was nothing to do
        self._examined_s, self._complaint = float("-inf"), ""
        self._means: dict[str, float] = {}
        self._work: list[tuple[float, float, int]] = []  # (begin, seconds, updates) of slices
        self.newest = Status(utd_target=learner.config.utd)

    def submit(self, episode: Episode | int | Score) -> None:
        """Hand over a closed episode, the number of one unfit for training, or a score."""
        self._inbox.put(episode)

    def run(self, stop: Event) -> None:
        """Load, then learn until `stop` is set (and `wake` called); save at the end."""
        self._start()
        while not stop.is_set():
            if not self.once() and not stop.is_set():
                self._fresh = self._receive(wait_s=0.5)
        self._save()
        self._log(self._tell(WAITING))

    def wake(self) -> None:
        """End a wait for episodes, so that `stop` is seen at once."""
        self._inbox.put(None)

    def save_when_settled(self, wanted: bool) -> None:
        """Say whether nothing more comes for now: then what is learned is saved, and SAVED told.

        A run waits for that word before it evaluates or ends.
        """
        if wanted != self._wants_saved:
            self._wants_saved = wanted
            self.wake()

    def once(self) -> bool:
        """Take in what came, do one slice of owed updates; return whether there was any work."""
        received = self._receive(wait_s=0.0) or self._fresh
        self._fresh = False
        owed = self._learner.updates_owed
        if owed:
            self._train()
            self._examine()
        settled = self._learner.updates_owed == 0
        self._publish_if_due(settled)
        now = self._clock()
        due = self._saved_episodes + self._settings.checkpoint_every
        last_one = settled and self._wants_saved and self._unsaved
        if (last_one or self._learner.episodes >= due) and now >= self._no_save_before_s:
            self._save()
        state = self._state()
        if received or state != self.newest.state or now - self._told_s >= self._told_every(state):
            self._tell(state)
        if now - self._logged_s >= self._settings.log_every_s:
            self._log(self.newest)
        return bool(owed or received)

    def _state(self) -> int:
        updates = self._learner.updates
        if self._learner.updates_owed:
            return TRAINING
        published = updates in (0, self._published_updates)
        return SAVED if self._wants_saved and published and not self._unsaved else WAITING

    # --- start ---------------------------------------------------------------------------------

    def _start(self) -> None:
        settings, learner = self._settings, self._learner
        self._tell(STARTING, "loads demos and checkpoint")
        for folder in (self._checkpoints, settings.run_dir / "weights"):
            tensorfile.remove_partial(folder)
        if not self._resume() and settings.demos is not None:
            demos = relabel_folder(settings.demos, self._base, self._contract)
            failed = sum(not demo.success for demo in demos)
            if failed:
                self._outlet.warn(f"{failed} of {len(demos)} demos failed and are left out")
            learner.add_demos(demos)
        for number, revision in learner.seen.items():
            self._outlet.taken(number, revision)
        self._saved_episodes = learner.episodes
        for path in list_episodes(settings.run_dir):
            self._take_bag(path)
        # Versions count on over restarts: the residual takes what is newer than what it has.
        self._version = newest_version(settings.run_dir)

    def _resume(self) -> bool:
        """Go back to the newest checkpoint that is whole; return whether there was one."""
        first: checkpoint.DamagedError | None = None
        for path in checkpoint.states(self._checkpoints):
            try:
                self._learner.load(self._checkpoints, str(path.relative_to(self._checkpoints)))
            except checkpoint.DamagedError as error:
                first = first or error
                self._outlet.warn(f"{error}; the checkpoint before is tried")
            else:
                self._unsaved = first is not None
                return True
        if first is not None:
            raise first
        return False

    def _take_bag(self, path: Path) -> None:
        try:
            manifest = read_manifest(path)
            held = self._learner.seen.get(manifest.episode, -1)
            if manifest.complete and held >= newest_verdict(path, manifest).revision:
                return  # in the checkpoint already: half an hour's bags take long to read
            if manifest.complete:
                self._take(read_episode(path).to_episode(self._contract))
            else:
                self._take(manifest.episode)
        except (BagError, EpisodeError, ContractError) as error:
            self._outlet.warn(f"left out: {error}")

    # --- work ----------------------------------------------------------------------------------

    def _receive(self, wait_s: float) -> bool:
        """Take in everything that waits; wait for the first for so long."""
        received = False
        while True:
            try:
                item = self._inbox.get(timeout=wait_s) if wait_s else self._inbox.get_nowait()
            except queue.Empty:
                return received
            wait_s = 0.0
            if isinstance(item, Score):
                self._rank(item)
            elif item is not None:
                self._take(item)
                received = True

    def _take(self, item: Episode | int) -> None:
        learner = self._learner
        if isinstance(item, int):
            # Not fit for training, but closed: who waits for it must not wait for ever.
            learner.last_episode = max(learner.last_episode, item)
            return
        try:
            self._unsaved |= learner.add_episode(item) and item.mode != EVALUATE
        except ReplayError as error:
            self._outlet.warn(f"refused: {error}")
            learner.last_episode = max(learner.last_episode, item.episode)
            return
        self._outlet.taken(item.episode, item.revision)

    def _train(self) -> None:
        begin = self._clock()
        metrics = self._learner.train(max_seconds=_SLICE_S)
        done = int(metrics.pop("updates"))
        self._means |= metrics
        self._unsaved = True
        self._work.append((begin, self._clock() - begin, done))
        while self._work[0][0] < begin - _RATE_WINDOW_S:
            self._work.pop(0)

    def _examine(self) -> None:
        """Look now and then whether what is learned makes sense; it is said in the status."""
        if self._clock() - self._examined_s < _EXAMINED_EVERY_S:
            return
        self._examined_s = self._clock()
        found = live.complaints(self._learner, self._contract.joint_names)
        if found and found != self._complaint:
            self._outlet.warn(found)
        self._complaint = found

    def _publish_if_due(self, settled: bool) -> None:
        updates = self._learner.updates
        if updates == self._published_updates or updates == 0:
            return
        late = self._clock() - self._published_s >= self._settings.publish_every_s
        if not settled and (self._settings.synchronous or not late):
            return
        self._published_updates, self._published_s = updates, self._clock()
        data = self._learner.weights_bytes(self._version + 1)
        kept = self._settings.keep_weights
        try:
            save_weights(self._settings.run_dir, self._version + 1, data, kept)
        except OSError as error:
            # A version that is not on disk would be given out twice after a crash.
            self._outlet.warn(f"weights are not published: {error}; the old ones stay")
            return
        self._version += 1
        self._outlet.weights(self._version, data, updates)

    def _save(self) -> bool:
        """Write a checkpoint; where the disk refuses, say so and go on learning without."""
        try:
            self._learner.save(self._checkpoints, self._settings.checkpoint_keep)
        except OSError as error:
            self._no_save_before_s = self._clock() + _SAVE_AGAIN_S
            self._outlet.warn(f"no checkpoint: {error}; the one before stays, make room")
            return False
        self._saved_episodes = self._learner.episodes
        self._unsaved = False
        return True

    def _rank(self, score: Score) -> None:
        """Keep the checkpoint of the weights that did best, if they are what is learned now."""
        updates = self._learner.updates
        if score.version != self._version or updates != self._published_updates:
            return
        self._best = self._best or BestKeeper(self._checkpoints)
        known = self._best.version
        if self._best.add(score) and (score.version == known or self._save()):
            if score.version != known:
                checkpoint.keep_best(self._checkpoints)
            self._best.keep(score.version, updates)

    # --- telling -------------------------------------------------------------------------------

    @property
    def _checkpoints(self) -> Path:
        return self._settings.run_dir / "checkpoints"

    def _told_every(self, state: int) -> float:
        return self._settings.status_every_s if state == TRAINING else float("inf")

    def _tell(self, state: int, message: str = "") -> Status:
        learner = self._learner
        seconds = sum(slice_s for _, slice_s, _ in self._work)
        self.newest = Status(
            state=state,
            message=message or self._complaint,
            episodes=learner.episodes,
            last_episode=learner.last_episode,
            env_steps=learner.env_steps,
            updates=learner.updates,
            utd_target=learner.config.utd,
            utd_achieved=learner.utd_achieved,
            updates_owed=learner.updates_owed,
            updates_per_s=sum(n for _, _, n in self._work) / seconds if seconds else 0.0,
            weights_version=self._version,
            demo_steps=len(learner.replay.demos),
            online_steps=len(learner.replay.online),
            **{k: self._means.get(k, 0.0) for k in ("critic_loss", "q_mean", "actor_loss")},
        )
        self._told_s = self._clock()
        self._outlet.status(self.newest)
        return self.newest

    def _log(self, status: Status) -> None:
        self._logged_s = self._clock()
        path = self._settings.run_dir / "learner.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            append_line(path, status.line(time.time()))
        except OSError as error:
            self._outlet.warn(f"{path} lacks a line: {error}")
        values: dict[str, Any] = dataclasses.asdict(status)
        for name in ("state", "message"):
            del values[name]
        self._outlet.scalars(status.env_steps, {**self._means, **values})
