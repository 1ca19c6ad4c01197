"""Read a recorded episode back: join by stamp, check, apply the newest verdict."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.interfaces import MessageDefinitionFormat
from rosbags.rosbag2 import Reader
from rosbags.typesys.store import Typestore

from resfit_core.blind import seal
from resfit_core.blind.mask import Mask
from resfit_core.contract import Contract
from resfit_core.control.records import Source
from resfit_core.data.bag_types import TOPICS, BagError, store_from_definitions, topic_of
from resfit_core.data.bags import Manifest, list_episodes, read_manifest
from resfit_core.data.episode import Episode, EpisodeError
from resfit_core.data.verdicts import Verdict, read_verdicts


@dataclasses.dataclass(frozen=True, eq=False)
class RecordedEpisode:
    """An episode of T steps as it was recorded, T + 1 observations.

    Attributes:
        observation: float32 (T + 1, obs_dim), contract layout, SI units.
        base_action: float32 (T + 1, act_dim), what acted as base, in its own normalised space; NaN
            in a blind evaluation until its seal is opened.
        chunk_phase: float32 (T + 1,), [0, 1).
        proposed: float32 (T, act_dim), before the safety filter, normalised.
        action_norm: float32 (T, act_dim), executed, normalised.
        action_rad: float64 (T, act_dim), executed joint targets [rad].
        source: uint8 (T,), of `ExecutedCommand`; TELEOP: a person's, an intervention.
        altered: bool (T,), the filter changed or refused the proposal.
        reasons: uint32 (T,), why.
        explored: bool (T,), exploration noise was added.
        weights_version: int64 (T,), residual weights that acted; 0: none.
        stamp_ns: int64 (T + 1,), times of the observations [ns].
        images: one uint8 (T + 1, size, size, 3) per camera of the contract.
        verdict: newest known; its credited step is T - 1.
        episode: number, from 1.
        mode: number of `EpisodeState.mode`.
        seed: scene seed.
        use_residual: as `EpisodeState.use_residual`.
        contract_sha256: 64 hex digits.
        base_sha256: of what acted as base, 64 hex digits.
    """

    observation: np.ndarray
    base_action: np.ndarray
    chunk_phase: np.ndarray
    proposed: np.ndarray
    action_norm: np.ndarray
    action_rad: np.ndarray
    source: np.ndarray
    altered: np.ndarray
    reasons: np.ndarray
    explored: np.ndarray
    weights_version: np.ndarray
    stamp_ns: np.ndarray
    images: tuple[np.ndarray, ...]
    verdict: Verdict
    episode: int
    mode: int
    seed: int
    use_residual: bool
    contract_sha256: str
    base_sha256: str

    @property
    def steps(self) -> int:
        """Number of steps T."""
        return len(self.action_rad)

    @property
    def sealed(self) -> bool:
        """Whether it belongs to a blind evaluation that is not opened yet."""
        return bool(np.isnan(self.base_action).all())

    def to_episode(self, contract: Contract, **changes: Any) -> Episode:
        """Return what the learner takes in.

        Args:
            contract: Its hash must be the episode's; it names the cameras.
            **changes: Fields of `Episode` to put in place of the recorded ones (relabelling).

        Raises:
            ContractError: It was recorded under another contract.
            EpisodeError: The arrays do not make a sound episode.
        """
        contract.require(self.contract_sha256, f"episode {self.episode}")
        reward = np.zeros(self.steps, np.float32)
        reward[-1] = self.verdict.reward
        fields = {
            "observation": self.observation,
            "base_action": self.base_action,
            "chunk_phase": self.chunk_phase,
            "action": self.action_norm,
            "reward": reward,
            "terminated": self.verdict.terminated,
            "truncated": self.verdict.truncated,
            "intervention": self.source == Source.TELEOP,
            "explored": self.explored,
            "episode": self.episode,
            "revision": self.verdict.revision,
            "mode": self.mode,
            "seed": self.seed,
            "success": self.verdict.success,
            "contract_sha256": self.contract_sha256,
            "base_sha256": self.base_sha256,
            "proposed": self.proposed if (self.source == Source.TELEOP).any() else None,
            "images": dict(zip(contract.images, self.images, strict=False)),
        }
        if len(self.images) != len(contract.images):
            raise EpisodeError(
                f"episode {self.episode}: {len(self.images)} images per step, the contract has "
                f"{list(contract.images)}"
            )
        return Episode(**{**fields, **changes})


def read_episode(path: Path) -> RecordedEpisode:
    """Read one closed episode; corrections in `verdicts.jsonl` of its run are applied.

    Args:
        path: The episode's folder, `.../episodes/episode_000001`.

    Raises:
        BagError: Truncated, foreign or inconsistent; the text names file, episode and fix.
    """
    path = Path(path)
    manifest = read_manifest(path)
    return _read(path, manifest, newest_verdict(path, manifest))


def newest_verdict(path: Path, manifest: Manifest) -> Verdict:
    """Return how the episode at `path` ended: by its manifest, or by a later correction.

    Raises:
        BagError: `verdicts.jsonl` is damaged.
    """
    corrections = read_verdicts(path.parent.parent) | read_verdicts(path.parent)
    found = corrections.get((manifest.run_id, manifest.episode), manifest.verdict)
    return found if found.revision >= manifest.revision else manifest.verdict


def read_episodes(folder: Path) -> list[RecordedEpisode]:
    """Read every closed episode below a run, its `episodes` folder, or a set of demos.

    Raises:
        BagError: There is none, or one cannot be read.
    """
    paths = list_episodes(folder)
    if not paths:
        raise BagError(f"{folder}: no episode_* folder in it; record some with 'make demos'")
    return [read_episode(path) for path in paths]


def _read(path: Path, manifest: Manifest, verdict: Verdict) -> RecordedEpisode:
    file = path / manifest.bag_file
    who = f"{file}: episode {manifest.episode}"
    check_bytes(file, who, manifest.bag_sha256)
    steps, executed = _messages(file, who)
    complete = []
    for index, message in enumerate(steps):
        if message.step != index:
            raise BagError(f"{who}: step {index} is missing; record it again")
        if stamp_of(message) not in executed:
            break
        complete.append(executed[stamp_of(message)])
    count = verdict.credited_step + 1 if verdict.credited_step >= 0 else manifest.steps
    if not 1 <= count <= min(len(complete), manifest.steps) or len(steps) < count + 1:
        raise BagError(
            f"{who}: {count} steps are to be credited, but {len(complete)} complete steps and "
            f"{len(steps)} observations are in the bag (manifest: {manifest.steps}); remove the "
            "episode's folder or mend its line in verdicts.jsonl"
        )
    seen, done = steps[: count + 1], complete[:count]
    act_dim = len(done[0].action_rad)
    try:
        return RecordedEpisode(
            observation=np.stack([m.observation for m in seen]).astype(np.float32),
            base_action=_base_actions(path, seen, act_dim),
            chunk_phase=np.array([m.chunk_phase for m in seen], np.float32),
            proposed=np.stack([m.action_norm for m in seen[:-1]]).astype(np.float32),
            action_norm=np.stack([m.action_norm for m in done]).astype(np.float32),
            action_rad=np.stack([m.action_rad for m in done]).reshape(count, act_dim),
            source=np.array([m.source for m in done], np.uint8),
            altered=np.array([m.altered for m in done], np.bool_),
            reasons=np.array([m.reasons for m in done], np.uint32),
            explored=np.array([m.explored for m in seen[:-1]], np.bool_),
            weights_version=np.array([m.weights_version for m in seen[:-1]], np.int64),
            stamp_ns=np.array([stamp_of(m) for m in seen], np.int64),
            images=_images(seen),
            verdict=dataclasses.replace(verdict, credited_step=count - 1),
            episode=manifest.episode,
            mode=manifest.mode,
            seed=manifest.seed,
            use_residual=manifest.use_residual,
            contract_sha256=manifest.contract_sha256,
            base_sha256=manifest.base_sha256,
        )
    except (ValueError, TypeError, LookupError, OverflowError, MemoryError) as error:
        raise BagError(f"{who}: lengths differ ({error}); record it again") from error


def _base_actions(path: Path, seen: list[Any], act_dim: int) -> np.ndarray:
    # Bags of earlier versions have no such field.
    if not len(getattr(seen[0], "base_action_sealed", ())):
        return np.stack([m.base_action_norm for m in seen]).astype(np.float32)
    seal_folder = path.parent.parent / seal.FOLDER
    if not seal.is_open(seal_folder):
        return np.full((len(seen), act_dim), np.nan, np.float32)
    mask = Mask(bytes.fromhex(seal.read_opened(seal_folder).mask))
    return np.stack(
        [
            mask.show(bytes(m.base_action_sealed), stamp_of(m), int(m.episode), int(m.step))
            for m in seen
        ]
    )


def check_bytes(file: Path, who: str, sha256: str) -> None:
    """Compare a bag with the hash in its manifest.

    Args:
        file: The MCAP.
        who: File and episode, for the error's words.
        sha256: 64 hex digits.

    Raises:
        BagError: It is missing, truncated or changed.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise BagError(f"{who}: cannot be read ({error.strerror}); fetch the bag again") from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise BagError(
            f"{who}: {len(data)} bytes with hash {found[:12]}…, the manifest says {sha256[:12]}…; "
            "the bag is truncated or changed: copy it anew or remove the episode's folder"
        )


def _messages(file: Path, who: str) -> tuple[list[Any], dict[int, Any]]:
    """Return the steps in order and the executed commands by stamp."""
    with readable(who), Reader(file) as reader:
        store = open_store(reader, who)
        found: dict[str, list[Any]] = {topic: [] for topic in TOPICS}
        for connection, _, data in reader.messages():
            topic = topic_of(connection.topic)
            if topic in ("step", "executed_command"):
                found[topic].append(store.deserialize_cdr(data, connection.msgtype))
    steps = sorted({m.step: m for m in found["step"]}.items())
    return [m for _, m in steps], {stamp_of(m): m for m in found["executed_command"]}


@contextlib.contextmanager
def readable(who: str) -> Iterator[None]:
    """Say in words what goes wrong while a stranger's MCAP is read.

    Args:
        who: File and episode, for the error's words.

    Raises:
        BagError: Whatever its reader raised; forged bytes make it raise all sorts of things.
    """
    try:
        yield
    except BagError:
        raise
    except Exception as error:
        words = str(error) or type(error).__name__
        raise BagError(f"{who}: no readable MCAP bag ({words}); remove the folder") from error


def open_store(reader: Reader, who: str) -> Typestore:
    """Return the types that an open bag carries, after a look whether it is one of ours.

    Raises:
        BagError: A topic of `TOPICS` is missing or of another type.
    """
    types: dict[str, set[str]] = {}
    for connection in reader.connections:
        types.setdefault(topic_of(connection.topic), set()).add(connection.msgtype)
    for topic, name in TOPICS.items():
        if types.get(topic) != {name}:
            found = " and ".join(sorted(types.get(topic, {"missing"})))
            raise BagError(
                f"{who}: topic '{topic}' is {found}, {name} is needed; this is "
                "no episode of ours: remove the folder"
            )
    texts = {
        (c.msgtype, c.msgdef.data)
        for c in reader.connections
        if c.msgdef.format == MessageDefinitionFormat.MSG
    }
    return store_from_definitions(tuple(sorted(texts)))


def _images(seen: list[Any]) -> tuple[np.ndarray, ...]:
    cameras = []
    for index in range(len(seen[0].images)):
        frames = []
        for message in seen:
            image = message.images[index]
            rows = np.asarray(image.data, np.uint8).reshape(image.height, image.step)
            frames.append(rows[:, : image.width * 3].reshape(image.height, image.width, 3))
        cameras.append(np.stack(frames))
    return tuple(cameras)


def stamp_of(message: Any) -> int:
    """Return the stamp of a message's header [ns]."""
    return message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
