"""One closed episode as a rosbag2 MCAP: written whole or not at all, read back with checks.

    episodes/episode_000001/
      metadata.yaml  episode_000001.mcap      a rosbag2 folder, message definitions embedded
      manifest.json                           hash of the bag, steps, verdict, hashes

The recorder's messages are stored as the serialized bytes that crossed the graph. `read_episode`
joins `Step` and `ExecutedCommand` by stamp and applies a correction from `verdicts.jsonl`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer, WriterError

from resfit_core.data.bag_types import TOPICS, BagError, name_in_bag, type_store
from resfit_core.data.verdicts import Verdict
from resfit_core.files import sync_folder

MANIFEST = "manifest.json"
_FORMAT = "resfit-bag-1"
_NEVER = QosTime(9223372036, 854775807)  # infinite, as rosbag2 writes it


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says of an episode; the fields of `EpisodeRecorded`.

    `bag_file` and `bag_sha256` are filled in by `write_episode`.
    """

    run_id: str
    episode: int
    steps: int
    dropped: int
    mode: int
    use_residual: bool
    seed: int
    ended_by: int
    credited_step: int
    reward: float
    terminated: bool
    truncated: bool
    contract_sha256: str
    base_sha256: str
    complete: bool = True
    reason: str = ""
    revision: int = 0
    bag_file: str = ""
    bag_sha256: str = ""

    @property
    def verdict(self) -> Verdict:
        """How it ended, as it was known when the bag was closed."""
        return Verdict(
            self.run_id,
            self.episode,
            self.revision,
            self.ended_by,
            self.credited_step,
            self.reason,
        )


def episode_folder(folder: Path, episode: int) -> Path:
    """Return where episode `episode` lies below a folder of episodes."""
    return Path(folder) / f"episode_{episode:06d}"


def write_episode(
    folder: Path,
    manifest: Manifest,
    messages: Iterable[tuple[str, int, bytes]],
    definitions: Path | None = None,
    more_topics: Mapping[str, str] | None = None,
) -> Manifest:
    """Write one episode; when this returns it is on disk under its final name.

    A crash at any instant leaves either the whole episode or a hidden partial folder, which
    `remove_partial` clears.

    Args:
        folder: The run's `episodes` folder; made if missing.
        manifest: Of the episode, without `bag_file` and `bag_sha256`.
        messages: (topic, stamp [ns], serialized CDR bytes); any order, kept for equal stamps.
        definitions: Folder of the `.msg` files; None: found by `definitions_folder`.
        more_topics: Topics besides `TOPICS` and their message types; those without a message are
            left out.

    Returns:
        The manifest with the bag's name and hash.

    Raises:
        BagError: The episode is there already, a topic is unknown, or there is no message.
        OSError: The disk refuses.
    """
    final = episode_folder(folder, manifest.episode)
    if final.exists():
        raise BagError(
            f"{final}: episode {manifest.episode} is recorded already; bags never change, use "
            "another run_dir or go on with the next number"
        )
    final.parent.mkdir(parents=True, exist_ok=True)
    # The bag's files carry the folder's name: so the partial episode lies one level down.
    hidden = Path(tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".partial", dir=final.parent))
    try:
        partial = hidden / final.name
        _write_bag(partial, sorted(messages, key=lambda m: m[1]), definitions, more_topics or {})
        bag = partial / f"{final.name}.mcap"
        manifest = dataclasses.replace(
            manifest, bag_file=bag.name, bag_sha256=hashlib.sha256(bag.read_bytes()).hexdigest()
        )
        described = {"format": _FORMAT, **dataclasses.asdict(manifest)}
        (partial / MANIFEST).write_text(json.dumps(described, indent=1) + "\n")
        for file in partial.iterdir():
            _sync_file(file)
        sync_folder(partial)
        try:
            partial.rename(final)
        except OSError as error:
            if not final.exists():
                raise
            raise BagError(f"{final}: episode {manifest.episode} appeared meanwhile") from error
        sync_folder(final.parent)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
    return manifest


def remove_partial(folder: Path) -> int:
    """Remove what crashes left half written below `folder`; return how many there were."""
    left = list(Path(folder).glob(".episode_*.partial"))
    for path in left:
        shutil.rmtree(path)
    return len(left)


def read_manifest(path: Path) -> Manifest:
    """Read `manifest.json` of an episode folder.

    Raises:
        BagError: There is none, or it is damaged or foreign.
    """
    file = Path(path) / MANIFEST
    again = "record the episode again, or move the folder away"
    try:
        data = json.loads(file.read_text())
    except FileNotFoundError:
        raise BagError(f"{file}: missing, so no closed episode of ours; {again}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise BagError(f"{file}: damaged ({error}); {again}") from error
    if not isinstance(data, dict) or data.get("format") != _FORMAT:
        found = data.get("format") if isinstance(data, dict) else type(data).__name__
        raise BagError(f"{file}: format is {found!r}, expected {_FORMAT!r}; {again}")
    names = [f.name for f in dataclasses.fields(Manifest)]
    missing = [name for name in names if name not in data]
    if missing:
        raise BagError(f"{file}: key '{missing[0]}' is missing; {again}")
    for name in names:
        if not _fits(name, data[name]):
            raise BagError(f"{file}: key '{name}' is {data[name]!r:.100}; {again}")
    return Manifest(**{name: data[name] for name in names})


def _fits(name: str, value: object) -> bool:
    """Whether a value is of its field's type, and within what a message can say."""
    kind = Manifest.__dataclass_fields__[name].type
    if kind == "int":
        least = -1 if name == "credited_step" else 0
        most = 2**64 if name == "seed" else 2**32
        return type(value) is int and least <= value < most
    if kind == "float":
        return type(value) in (int, float) and value in (0, 1)  # of floats there is the reward
    if name == "bag_file":
        # A name beside the manifest, never a path that leads elsewhere.
        return isinstance(value, str) and value == Path(value).name and "\0" not in value
    return type(value) is {"bool": bool, "str": str}[kind]


def list_episodes(folder: Path) -> list[Path]:
    """Return the closed episodes below `folder` (a run, its `episodes`, or a set of demos)."""
    folder = Path(folder)
    found: list[Path] = []
    for place in (folder, folder / "episodes"):
        # A run that has not ended also holds a file of that name, `episode_open.json`.
        found = found or [path for path in sorted(place.glob("episode_*")) if path.is_dir()]
    return found


def _write_bag(
    path: Path,
    messages: list[tuple[str, int, bytes]],
    definitions: Path | None,
    more_topics: Mapping[str, str],
) -> None:
    if not messages:
        raise BagError(f"{path.name}: no message; leave out episodes without a complete step")
    store = type_store(definitions)
    said = {topic for topic, _, _ in messages}
    topics = {**TOPICS, **{t: name for t, name in more_topics.items() if t in said}}
    try:
        writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
        # zstd per chunk: what rosbag2 itself calls the storage preset `zstd_fast`.
        writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        with writer:
            channels = {
                topic: writer.add_connection(
                    name_in_bag(topic), name, typestore=store, offered_qos_profiles=[_qos(topic)]
                )
                for topic, name in topics.items()
            }
            for topic, stamp, data in messages:
                if topic not in channels:
                    raise BagError(f"{path.name}: topic '{topic}' is not one of {list(topics)}")
                writer.write(channels[topic], stamp, data)
    except WriterError as error:
        raise BagError(f"{path.name}: cannot be written ({error})") from error


def _qos(topic: str) -> Qos:
    latched = topic == "episode_state"
    return Qos(
        QosHistory.KEEP_LAST,
        1 if latched else 400 if topic in TOPICS else 10,
        QosReliability.RELIABLE,
        QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        _NEVER,
        _NEVER,
        QosLiveliness.AUTOMATIC,
        _NEVER,
        False,
    )


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
