"""Close an episode: on disk first, then what learner and manager are told (DESIGN section 7)."""

from __future__ import annotations

import dataclasses
import errno
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from resfit_core import tensorfile
from resfit_core.contract import Contract, ContractError
from resfit_core.control.records import EndedBy, EpisodeState
from resfit_core.data.assembler import STEP, Assembled
from resfit_core.data.bag_reader import read_episode
from resfit_core.data.bag_types import TOPICS, BagError, type_store
from resfit_core.data.bags import Manifest, episode_folder, read_manifest, write_episode
from resfit_core.data.episode import EpisodeError
from resfit_core.data.verdicts import Verdict, append_verdict
from resfit_core.files import sync_folder

PIECE_BYTES = 1 << 20
"""Largest piece of an episode in one `RecordedSteps` message."""


@dataclasses.dataclass(frozen=True)
class Closed:
    """A closed episode as it is announced.

    Attributes:
        manifest: With the newest verdict; `complete` False: not fit for training, `reason` why.
        uri: Folder of the bag; empty: it left none.
        weights_version: Newest residual weights that acted; 0: none.
        payload: `Episode.to_bytes`; empty: nothing for the learner.
    """

    manifest: Manifest
    uri: str
    weights_version: int
    payload: bytes

    def pieces(self) -> list[bytes]:
        """Return the payload cut to pieces that fit into a message each."""
        return [
            self.payload[at : at + PIECE_BYTES] for at in range(0, len(self.payload), PIECE_BYTES)
        ]

    @property
    def sha256(self) -> str:
        """Hash of the payload, 64 hex digits."""
        return tensorfile.sha256(self.payload)


def close_episode(
    run_dir: Path,
    assembled: Assembled[bytes],
    contract: Contract,
    states: Iterable[tuple[int, bytes]] = (),
    sensors: Iterable[tuple[str, int, bytes]] = (),
    sensor_topics: Mapping[str, str] | None = None,
    reserve: int = 0,
) -> Closed:
    """Write the bag and return what to announce; when this returns, nothing can be lost any more.

    Args:
        run_dir: Folder of the run.
        assembled: Of serialized messages.
        contract: Of the run.
        states: (stamp [ns], serialized `EpisodeState`) that go into the bag as well.
        sensors: Likewise (topic, stamp [ns], serialized message), from `SensorLog.take`.
        sensor_topics: Types of these topics.
        reserve: Room that must be left on the disk [bytes].

    Raises:
        BagError: It cannot be written.
        OSError: The disk refuses; nothing is left of the attempt, it may be made again.
    """
    state = assembled.state
    folder = Path(run_dir) / "episodes"
    if assembled.steps == 0:
        empty = _manifest(assembled, "", "", complete=False, reason=assembled.reason)
        return Closed(empty, "", 0, b"")
    steps = [payload for topic, _, payload in assembled.messages if topic == STEP]
    store = type_store()
    first, last = (store.deserialize_cdr(steps[n], TOPICS[STEP]) for n in (0, assembled.steps - 1))
    manifest = _manifest(
        assembled,
        first.contract_sha256,
        first.base_sha256,
        complete=not assembled.verdict_lost,
        reason=assembled.reason,
    )
    # Sensors first: of equal stamps, what was seen comes before what was made of it.
    messages = [
        *sensors,
        *assembled.messages,
        *(("episode_state", stamp, data) for stamp, data in states),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    if _is_there(folder, manifest):
        sync_folder(folder)
    else:
        require_space(folder, sum(len(data) for _, _, data in messages), reserve)
        write_episode(folder, manifest, messages, more_topics=sensor_topics)
    return _closed(episode_folder(folder, state.episode), contract, last.weights_version)


def require_space(folder: Path, size: int, reserve: int) -> None:
    """Refuse to begin what would fill the disk to the brim.

    The log of the run and the learner's checkpoints need room as well, and half a bag takes some
    until it is cleared.

    Args:
        folder: Where the bag is to go.
        size: Of its messages, uncompressed [bytes].
        reserve: What must be left over [bytes].

    Raises:
        OSError: ENOSPC, with the numbers.
    """
    free = shutil.disk_usage(folder).free
    if free < size + reserve:
        raise OSError(
            errno.ENOSPC,
            f"disk full: {free / 1e6:.1f} MB are free, {size / 1e6:.1f} MB are needed and "
            f"{reserve / 1e6:.1f} MB kept free; make room, the run goes on by itself",
            str(folder),
        )


def reopen(run_dir: Path, episode: int, contract: Contract) -> Closed:
    """Return an episode that was closed before, under its newest verdict.

    Raises:
        BagError: There is none, or it cannot be read.
    """
    return _closed(episode_folder(Path(run_dir) / "episodes", episode), contract)


def correct(run_dir: Path, state: EpisodeState, contract: Contract) -> Closed:
    """Put a corrected verdict on disk; return the episode under it.

    Args:
        run_dir: Folder of the run.
        state: The ENDED state of a closed episode, of a higher revision.
        contract: Of the run.

    Raises:
        BagError: The episode left no bag, or the bag does not hold the step credited now.
    """
    folder = episode_folder(Path(run_dir) / "episodes", state.episode)
    known = read_episode(folder).verdict
    if known.run_id == state.run_id and known.revision >= state.revision:
        return _closed(folder, contract)
    manifest = read_manifest(folder)
    if not manifest.complete and state.ended_by == EndedBy.ABORTED:
        return _closed(folder, contract)  # aborted already: what it credits is not there
    if state.credited_step + 1 > manifest.steps:
        raise BagError(
            f"{folder}: the corrected verdict credits step {state.credited_step}, the bag holds "
            f"{manifest.steps} steps; the first verdict stays"
        )
    verdict = Verdict(
        state.run_id, state.episode, state.revision, int(state.ended_by),
        state.credited_step, state.reason,
    )  # fmt: skip
    append_verdict(Path(run_dir), verdict)
    return _closed(folder, contract)


def _is_there(folder: Path, manifest: Manifest) -> bool:
    """Whether an earlier attempt got as far as the rename (the folder's fsync failed)."""
    path = episode_folder(folder, manifest.episode)
    if not path.is_dir():
        return False
    there = read_manifest(path)
    return dataclasses.replace(there, bag_file="", bag_sha256="") == manifest


def _manifest(
    assembled: Assembled[bytes], contract: str, base: str, *, complete: bool, reason: str
) -> Manifest:
    state = assembled.state
    # A verdict whose step is lost credits nothing: the rest is an aborted episode.
    lost = assembled.verdict_lost or assembled.steps == 0
    ended_by = EndedBy.ABORTED if lost else EndedBy(state.ended_by)
    terminated = ended_by in (EndedBy.SUCCESS, EndedBy.FAILURE)
    return Manifest(
        run_id=state.run_id,
        episode=state.episode,
        steps=assembled.steps,
        dropped=assembled.dropped,
        mode=int(state.mode),
        use_residual=state.use_residual,
        seed=state.seed,
        ended_by=int(ended_by),
        credited_step=assembled.steps - 1,
        reward=float(ended_by == EndedBy.SUCCESS),
        terminated=terminated,
        truncated=not terminated,
        contract_sha256=contract,
        base_sha256=base,
        complete=complete,
        reason=reason,
        revision=state.revision,
    )


def _closed(folder: Path, contract: Contract, weights_version: int | None = None) -> Closed:
    """Read back what lies on disk: what is announced is what a later reader will find."""
    manifest = read_manifest(folder)
    recorded = read_episode(folder)
    verdict = recorded.verdict
    manifest = dataclasses.replace(
        manifest,
        steps=recorded.steps,
        dropped=manifest.dropped + manifest.steps - recorded.steps,
        ended_by=verdict.ended_by,
        credited_step=verdict.credited_step,
        reward=verdict.reward,
        terminated=verdict.terminated,
        truncated=verdict.truncated,
        revision=verdict.revision,
    )
    if weights_version is None:
        weights_version = int(recorded.weights_version[-1])
    payload = b""
    # A blind evaluation is nobody's lesson, and its base actions are hidden.
    if manifest.complete and not recorded.sealed:
        try:
            payload = recorded.to_episode(contract).to_bytes()
        except (EpisodeError, ContractError) as error:
            manifest = dataclasses.replace(manifest, complete=False, reason=str(error))
    return Closed(manifest, str(folder), weights_version, payload)
