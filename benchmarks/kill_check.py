"""What a run's files say after it was killed many times: lost, doubled, corrupt."""

from __future__ import annotations

import collections
import contextlib
import hashlib
import json
import math
from pathlib import Path
from typing import Any

from resfit_core import tensorfile
from resfit_core.contract import load_contract
from resfit_core.control.records import EndedBy, Mode
from resfit_core.data.bag_reader import newest_verdict, read_episode
from resfit_core.data.bag_types import BagError
from resfit_core.data.bags import list_episodes, read_manifest
from resfit_core.data.episode import Episode, EpisodeError
from resfit_core.run_log import RunLogError, read_episodes, read_objects
from resfit_core.weights import newest_version, weights_path


class Seen:
    """What was closed, as an onlooker saw it while the run went: none of it may go or change."""

    def __init__(self, file: Path) -> None:
        """Go on with what was seen before, if the bench itself was stopped."""
        self._file = file
        self.bags: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}

    def look(self, folder: Path) -> None:
        """Note the closed episodes and the hashes of their manifests."""
        new = {}
        for path in list_episodes(folder) if folder.is_dir() else []:
            if path.name not in self.bags:
                new[path.name] = _sha256(path / "manifest.json")
        if new:
            self.bags |= new
            self._file.write_text(json.dumps(self.bags))


def check_run(folder: Path, seen: Seen) -> dict[str, Any]:
    """Check a finished run.

    Returns:
        `lost`: closed episodes that are gone, changed, missing in the log, logged otherwise than
        they were recorded, or not in the learner's buffer. `doubled`: scenes that count twice, or
        episodes twice in the buffer. `corrupt`: files under their final name that are not whole.
        `problems`: each in words. `closed`: episodes with a bag.
    """
    problems: list[tuple[str, str]] = []
    seen.look(folder)
    paths = {path.name: path for path in list_episodes(folder)}
    for name, sha in seen.bags.items():
        if name not in paths:
            problems.append(("lost", f"{name} was closed and is gone"))
        elif _sha256(paths[name] / "manifest.json") != sha:
            problems.append(("lost", f"{name} was closed and has changed"))
    episodes = read_all(folder, paths, problems)
    _check_log(folder, paths, problems)
    _check_buffer(folder, episodes, problems)
    _check_files(folder, problems)
    count = collections.Counter(kind for kind, _ in problems)
    return {
        "closed": len(paths),
        **{kind: count[kind] for kind in ("lost", "doubled", "corrupt")},
        "problems": [f"{kind}: {text}" for kind, text in problems],
    }


def read_all(
    folder: Path, paths: dict[str, Path], problems: list[tuple[str, str]]
) -> dict[int, Episode]:
    """Read every bag as the learner does; return what is fit for training, by number."""
    config = folder / "config"
    contract = load_contract(config / "robot.yaml", config / "task.yaml")
    found = {}
    for path in paths.values():
        try:
            manifest, recorded = read_manifest(path), read_episode(path)
            if manifest.complete and manifest.mode in (Mode.WARMUP, Mode.TRAIN):
                found[manifest.episode] = recorded.to_episode(contract)
        except (BagError, EpisodeError, ValueError) as error:
            problems.append(("corrupt", str(error)))
    return found


def _check_log(folder: Path, paths: dict[str, Path], problems: list[tuple[str, str]]) -> None:
    try:
        lines = read_episodes(folder / "episodes.jsonl")
        raw = read_objects(folder / "episodes.jsonl")
    except RunLogError as error:
        problems.append(("corrupt", str(error)))
        return
    twice = collections.Counter((x["episode"], x.get("revision", 0)) for x in raw)
    problems += [("doubled", f"log line {key}") for key, n in twice.items() if n > 1]
    scenes = collections.Counter((x.mode, x.use_residual, x.seed) for x in lines if x.counts)
    if any(n > 1 for n in scenes.values()):
        problems += [("doubled", f"scene {key} counts") for key, n in scenes.items() if n > 1]
    by_number = {x.episode: x for x in lines}
    for path in paths.values():
        with contextlib.suppress(BagError):  # said by read_all
            manifest = read_manifest(path)
            verdict = newest_verdict(path, manifest)
            line = by_number.get(manifest.episode)
            word = EndedBy(verdict.ended_by).name.lower()
            if line is None:
                problems.append(("lost", f"{path.name} ({word}) is not in episodes.jsonl"))
            elif line.ended_by != word:
                problems.append(
                    ("lost", f"{path.name} was recorded as {word}, logged as {line.ended_by}")
                )
    for line in lines:
        if line.counts and f"episode_{line.episode:06d}" not in paths:
            problems.append(("lost", f"episode {line.episode} counts and has no bag"))


def _check_buffer(
    folder: Path, episodes: dict[int, Episode], problems: list[tuple[str, str]]
) -> None:
    """The learner's last checkpoint must be there and hold every episode fit for training, once.

    A run may not end before all is learned and saved.
    """
    file = folder / "checkpoints" / "learner.safetensors"
    if not file.exists():
        problems.append(("lost", f"{file} is not there though the run is finished"))
        return
    try:
        _, header = tensorfile.unpack(file.read_bytes(), str(file))
    except (OSError, tensorfile.TensorFileError) as error:
        problems.append(("corrupt", str(error)))
        return
    held = collections.Counter(header["replay"]["online"])
    wanted = {episode.sha256: number for number, episode in episodes.items()}
    problems += [("doubled", f"{sha[:12]} in the buffer") for sha, n in held.items() if n > 1]
    for sha, number in wanted.items():
        if sha not in held:
            problems.append(("lost", f"episode {number} is not in the learner's buffer"))
    for sha in held:
        if sha not in wanted:
            problems.append(("doubled", f"buffer holds {sha[:12]}, which is in no bag"))
    _check_learned(folder, header, sum(e.steps for e in episodes.values()), problems)


def _check_learned(
    folder: Path, header: dict[str, Any], steps: int, problems: list[tuple[str, str]]
) -> None:
    """Each step must have counted once towards the updates, and the weights must be the last."""
    counters, config, done = header["counters"], header["config"], header["critic_updates"]
    if counters["env_steps"] != steps:
        kind = "lost" if counters["env_steps"] < steps else "doubled"
        problems.append((kind, f"the learner counts {counters['env_steps']} steps, not {steps}"))
    if counters["steps_at_start"] is not None:
        since = counters["env_steps"] - counters["steps_at_start"]
        owed = config["critic_warmup_updates"] + math.floor(config["utd"] * since + 1e-6)
        if done != owed:
            kind = "lost" if done < owed else "doubled"
            problems.append((kind, f"{done} updates are in the checkpoint, not {owed}"))
    version = newest_version(folder)
    if done:
        _, weights = tensorfile.unpack(weights_path(folder, version).read_bytes())
        if weights["updates"] != done:
            problems.append(("lost", f"weights {version}: {weights['updates']} updates of {done}"))


def _check_files(folder: Path, problems: list[tuple[str, str]]) -> None:
    """Every file that a restart would read must be whole."""
    for file in [
        *(folder / "weights").glob("version_*.safetensors"),
        *(folder / "checkpoints").rglob("[!.]*.safetensors"),
    ]:
        try:
            data = file.read_bytes()
            tensorfile.unpack(data, str(file))
            if file.parent.name == "episodes" and tensorfile.sha256(data) != file.stem:
                problems.append(("corrupt", f"{file}: content has another hash than its name"))
        except tensorfile.TensorFileError as error:
            problems.append(("corrupt", str(error)))
    for file in folder.rglob("*.jsonl"):
        try:
            read_objects(file)
        except RunLogError as error:
            problems.append(("corrupt", str(error)))


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
