"""Whether an opened seal is the one that was committed to before the first episode ran."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rosbags.rosbag2 import Reader

from resfit_core.blind.rounds import by_place
from resfit_core.blind.seal import FOLDER, Commitment, Opening, read_commitment, read_opened
from resfit_core.blind.sealed_policy import policy_file
from resfit_core.data.bag_types import TOPICS, BagError, topic_of, type_store
from resfit_core.data.bags import list_episodes, read_manifest
from resfit_core.run_log import read_episodes

_SAID = re.compile(r"commitment ([0-9a-f]{64})")
_SHOWN = 3


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing that was looked at; `found` says what there is, or what is wrong."""

    what: str
    ok: bool
    found: str


def verify(folder: Path) -> list[Check]:
    """Check the opened seal of an evaluation against everything that its run left.

    A forged order needs a forged commitment, and that one stands in the nodes' logs and in every
    recorded episode as well, whose bag is hashed in its manifest.

    Args:
        folder: Of the evaluation.

    Raises:
        SealError: There is no seal, or it was not opened yet.
        RunLogError, BagError: What the run left is damaged.
    """
    opening, commitment = read_opened(folder / FOLDER), read_commitment(folder / FOLDER)
    return [
        _opening(opening, commitment),
        _logs(folder, commitment),
        _episodes(folder, commitment),
        _recordings(folder, commitment),
        _weights(folder, commitment),
    ]


def _opening(opening: Opening, commitment: Commitment) -> Check:
    found = opening.commitment
    what = "salt and order hash to the commitment"
    if found == commitment:
        return Check(what, True, found.sha256)
    return Check(what, False, f"they hash to {found.sha256}, committed was {commitment.sha256}")


def _logs(folder: Path, commitment: Commitment) -> Check:
    what = "the nodes' logs name this commitment"
    said = {}
    for file in sorted((folder / "logs").rglob("*.log")):
        for found in _SAID.findall(file.read_text(errors="replace")):
            said.setdefault(found, file.name)
    others = [f"{name} says {sha256}" for sha256, name in said.items()
              if sha256 != commitment.sha256]  # fmt: skip
    if others:
        return Check(what, False, "; ".join(others[:_SHOWN]))
    if not said:
        return Check(what, False, f"no log in {folder / 'logs'} names any")
    return Check(what, True, said[commitment.sha256])


def _episodes(folder: Path, commitment: Commitment) -> Check:
    what = "every verdict belongs to a round, label and scene of the seal"
    found = by_place(read_episodes(folder / "episodes.jsonl"))
    wrong = []
    for (number, label), line in found.items():
        if not _fits(commitment, number, label, line.seed):
            wrong.append(f"episode {line.episode}: round {number}, {label}, scene {line.seed}")
    if wrong:
        return Check(what, False, "; ".join(wrong[:_SHOWN]))
    return Check(what, True, f"{len(found)} verdicts")


def _recordings(folder: Path, commitment: Commitment) -> Check:
    """Look into the bags: their states carry the commitment, and their hashes lie beside them."""
    what = "every recorded episode carries this commitment"
    wrong = []
    counted = {
        line.episode: line for line in by_place(read_episodes(folder / "episodes.jsonl")).values()
    }
    paths = list_episodes(folder)
    for path in paths:
        manifest = read_manifest(path)
        bag = path / manifest.bag_file
        if hashlib.sha256(bag.read_bytes()).hexdigest() != manifest.bag_sha256:
            wrong.append(f"{bag.name} is not what its manifest says")
            continue
        line = counted.get(manifest.episode)
        for state in _states(bag):
            if state.seal != commitment.sha256:
                wrong.append(f"{bag.name} carries {state.seal or 'none'}")
                break
            if line is not None and (state.round, state.label) != (line.round, line.label):
                wrong.append(f"{bag.name} is of round {state.round}, {state.label}; the log says "
                             f"{line.round}, {line.label}")  # fmt: skip
                break
    if wrong:
        return Check(what, False, "; ".join(wrong[:_SHOWN]))
    return Check(what, bool(paths), f"{len(paths)} recordings")


def _states(bag: Path) -> Iterator[Any]:
    store = type_store()
    try:
        with Reader(bag) as reader:
            chosen = [c for c in reader.connections if topic_of(c.topic) == "episode_state"]
            for _, _, data in reader.messages(connections=chosen):
                yield store.deserialize_cdr(data, TOPICS["episode_state"])
    except Exception as error:  # the reader's own errors are many; each means an unreadable bag
        raise BagError(f"{bag}: cannot be read ({error})") from error


def _weights(folder: Path, commitment: Commitment) -> Check:
    what = "the weights are those that were sealed"
    wrong = []
    for index, policy in enumerate(commitment.policies):
        file = policy_file(folder, index)
        if not policy.sha256:
            continue
        data = file.read_bytes() if file.is_file() else b""
        if hashlib.sha256(data).hexdigest() != policy.sha256:
            wrong.append(f"{file.name} is not '{policy.name}'")
    if wrong:
        return Check(what, False, "; ".join(wrong))
    return Check(what, True, ", ".join(p.name for p in commitment.policies))


def _fits(commitment: Commitment, number: int, label: str, seed: int) -> bool:
    within = 1 <= number <= len(commitment.scenes) and label in commitment.labels
    return within and commitment.scenes[number - 1] == seed
