"""The seal of a blind evaluation: which policy acts when, committed first and opened last.

    seal/
      commitment.json   public: hash, policies, scenes, labels
      sealed.bin        mode 0600: salt, order and mask key, under a one-time pad that lies beside
      mask.bin          mode 0600: the mask key alone
      opened.json       after the end: salt, order, mask key

The pad keeps the order out of sight of `cat`, `grep` and whoever looks through the folder; it
cannot keep out a person who decodes the file on purpose. The commitment keeps anybody from
changing the order afterwards.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import random
import secrets
import string
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resfit_core.tensorfile import write_atomic

FOLDER = "seal"
COMMITMENT, SEALED, MASK, OPENED = "commitment.json", "sealed.bin", "mask.bin", "opened.json"
MATCHES = "matches.jsonl"
"""Beside the seal's folder: how alike the scenes of a round were."""
FORMAT = "resfit-seal-1"
LABELS = string.ascii_uppercase
BASE = "base"
KEY_BYTES = 32
_NO_OPENING = (KeyError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError)


class SealError(ValueError):
    """A seal that is missing, damaged, broken or does not fit; the text names value and fix."""


@dataclasses.dataclass(frozen=True)
class Policy:
    """A competitor.

    Attributes:
        name: As the report calls it: `base`, or where its weights come from.
        sha256: Of the weights' file, 64 hex digits; empty: the base alone.
    """

    name: str
    sha256: str = ""


@dataclasses.dataclass(frozen=True)
class Commitment:
    """What everybody may know.

    Attributes:
        sha256: Hash of the opening, 64 hex digits.
        policies: Competitors, in the order in which they were named.
        scenes: Seed of each round's scene.
    """

    sha256: str
    policies: tuple[Policy, ...]
    scenes: tuple[int, ...]

    @property
    def labels(self) -> str:
        """Labels of a round's episodes, in the order of their running."""
        return LABELS[: len(self.policies)]

    @property
    def said(self) -> str:
        """The commitment as the logs say it."""
        return f"blind evaluation, commitment {self.sha256}"


@dataclasses.dataclass(frozen=True)
class Opening:
    """What is sealed: salt and order, with all that they belong to.

    Attributes:
        salt: 64 hex digits.
        orders: For each round the policies' indices in the order of their running.
        policies: Competitors.
        scenes: Seed of each round's scene.
        mask: Key of `Mask`, 64 hex digits.
    """

    salt: str
    orders: tuple[tuple[int, ...], ...]
    policies: tuple[Policy, ...]
    scenes: tuple[int, ...]
    mask: str

    def __post_init__(self) -> None:
        """Check that it is whole.

        Raises:
            SealError: Rounds, policies and orders do not fit each other.
        """
        if not 2 <= len(self.policies) <= len(LABELS):
            raise SealError(
                f"{len(self.policies)} policies: 2 to {len(LABELS)} can be compared; "
                "name them in policies:="
            )
        if len(self.orders) != len(self.scenes) or not self.scenes:
            raise SealError(f"{len(self.orders)} orders for {len(self.scenes)} scenes")
        everybody = list(range(len(self.policies)))
        for number, order in enumerate(self.orders, 1):
            if sorted(order) != everybody:
                raise SealError(f"round {number}: order {order} does not hold each policy once")

    @property
    def commitment(self) -> Commitment:
        """What is published of it."""
        return Commitment(hashlib.sha256(self.to_bytes()).hexdigest(), self.policies, self.scenes)

    def acts(self, round_number: int, label: str) -> int:
        """Return the index of the policy behind a label of a round, from 1.

        Raises:
            SealError: There is no such round or label.
        """
        labels = LABELS[: len(self.policies)]
        if not 1 <= round_number <= len(self.orders) or len(label) != 1 or label not in labels:
            raise SealError(
                f"round {round_number}, label '{label}': the seal holds rounds 1 to "
                f"{len(self.orders)} with labels {labels[0]} to {labels[-1]}"
            )
        return self.orders[round_number - 1][labels.index(label)]

    def to_bytes(self) -> bytes:
        """Return the bytes that are hashed: JSON, sorted, without spaces."""
        fields = {"format": FORMAT, **dataclasses.asdict(self)}
        return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Opening:
        """Return what `to_bytes` wrote.

        Raises:
            SealError: The bytes are something else.
        """
        try:
            fields = json.loads(data)
            if fields.pop("format") != FORMAT:
                raise SealError(f"{where}: not of format {FORMAT}")
            return cls(
                salt=fields["salt"],
                orders=tuple(tuple(int(i) for i in order) for order in fields["orders"]),
                policies=_policies(fields["policies"]),
                scenes=tuple(int(seed) for seed in fields["scenes"]),
                mask=fields["mask"],
            )
        except _NO_OPENING as error:
            raise SealError(f"{where}: no opening of a seal ({error!r})") from error


def draw(policies: Sequence[Policy], scenes: Sequence[int]) -> Opening:
    """Draw salt, key and one random order per round from the system's randomness."""
    chance = random.SystemRandom()
    orders = []
    for _ in scenes:
        order = list(range(len(policies)))
        chance.shuffle(order)
        orders.append(tuple(order))
    return Opening(
        salt=secrets.token_hex(KEY_BYTES),
        orders=tuple(orders),
        policies=tuple(policies),
        scenes=tuple(scenes),
        mask=secrets.token_hex(KEY_BYTES),
    )


def close(folder: Path, opening: Opening) -> Commitment:
    """Write a seal. `commitment.json` comes last: where it lies, the seal is whole.

    Args:
        folder: `seal` of an evaluation.
        opening: What to seal.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plain = opening.to_bytes()
    pad = secrets.token_bytes(len(plain))
    _write_secret(folder / SEALED, pad + bytes(a ^ b for a, b in zip(pad, plain, strict=True)))
    _write_secret(folder / MASK, bytes.fromhex(opening.mask))
    commitment = opening.commitment
    public = {"format": FORMAT, **dataclasses.asdict(commitment), "labels": commitment.labels}
    _write_json(folder / COMMITMENT, public)
    return commitment


def read_commitment(folder: Path) -> Commitment:
    """Read the public part.

    Raises:
        SealError: There is none, or it is damaged.
    """
    fields = _read_json(folder / COMMITMENT)
    try:
        return Commitment(
            str(fields["sha256"]),
            _policies(fields["policies"]),
            tuple(int(seed) for seed in fields["scenes"]),
        )
    except (KeyError, TypeError) as error:
        raise SealError(f"{folder / COMMITMENT}: damaged ({error!r})") from error


def read_sealed(folder: Path) -> Opening:
    """Read what is sealed; for who acts and for who opens it, and for nobody else.

    Raises:
        SealError: It is missing, damaged, or not what was committed to.
    """
    file = folder / SEALED
    try:
        data = file.read_bytes()
    except OSError as error:
        raise SealError(
            f"{file}: cannot be read ({error.strerror}); without it the evaluation cannot go on: "
            "start a new one"
        ) from error
    half = len(data) // 2
    plain = bytes(a ^ b for a, b in zip(data[:half], data[half:], strict=False))
    opening = Opening.from_bytes(plain, str(file))
    if opening.commitment != read_commitment(folder):
        raise SealError(f"{file}: not what {COMMITMENT} commits to; start a new evaluation")
    return opening


def read_mask(folder: Path) -> bytes:
    """Read the mask key.

    Raises:
        SealError: It is missing or damaged.
    """
    try:
        key = (folder / MASK).read_bytes()
    except OSError as error:
        raise SealError(f"{folder / MASK}: cannot be read ({error.strerror})") from error
    if len(key) != KEY_BYTES:
        raise SealError(f"{folder / MASK}: {len(key)} bytes, {KEY_BYTES} are needed")
    return key


def reveal(folder: Path) -> Opening:
    """Open a seal for everybody; there is no way back. Opened already: return what it holds.

    Raises:
        SealError: It is missing or damaged.
    """
    if (folder / OPENED).exists():
        return read_opened(folder)
    opening = read_sealed(folder)
    opened = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
    fields = json.loads(opening.to_bytes())
    _write_json(folder / OPENED, {"opened": opened, "opening": fields})
    return opening


def is_open(folder: Path) -> bool:
    """Return whether a seal was opened."""
    return (folder / OPENED).exists()


def read_opened(folder: Path) -> Opening:
    """Read what an opened seal says; `verify` tells whether it is true.

    Raises:
        SealError: It was not opened, or the file is damaged.
    """
    fields = _read_json(folder / OPENED)
    return Opening.from_bytes(json.dumps(fields.get("opening")).encode(), str(folder / OPENED))


def _policies(fields: Any) -> tuple[Policy, ...]:
    return tuple(Policy(str(p["name"]), str(p["sha256"])) for p in fields)


def _write_secret(path: Path, data: bytes) -> None:
    # Made under its mode, so that it is never readable for others, not for a moment.
    before = os.umask(0o177)
    try:
        write_atomic(path, data)
    finally:
        os.umask(before)


def _write_json(path: Path, fields: Mapping[str, Any]) -> None:
    write_atomic(path, (json.dumps(fields, indent=1) + "\n").encode())


def _read_json(path: Path) -> dict[str, Any]:
    try:
        fields = json.loads(path.read_text())
    except OSError as error:
        raise SealError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise SealError(f"{path}: damaged ({error})") from error
    if not isinstance(fields, dict):
        raise SealError(f"{path}: damaged (no JSON object)")
    return fields
