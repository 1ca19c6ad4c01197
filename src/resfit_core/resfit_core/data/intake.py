"""Episodes on their way to the learner: pieces joined, hashes checked, missing ones named."""

from __future__ import annotations

import dataclasses

from resfit_core import tensorfile
from resfit_core.data.episode import Episode, EpisodeError

_TRIES = 5
MOST_PIECES, MOST_PIECE_BYTES, _MOST_OPEN = 4096, 1 << 21, 8
"""What an episode's pieces may be at most: number and size [bytes]; and episodes under way."""


@dataclasses.dataclass
class _Wanted:
    revision: int
    next_s: float  # ask again at this time
    tries: int = 0


_MOST_EXPECTED = 10_000


class EpisodeIntake:
    """Takes pieces of episodes in and says which episodes to ask for. Not thread-safe."""

    def __init__(self, patience_s: float = 2.0) -> None:
        """Start empty.

        Args:
            patience_s: Wait so long for an announced episode before asking for it, and between
                askings.
        """
        self._patience_s = patience_s
        self._pieces: dict[tuple[int, int, int, str], dict[int, bytes]] = {}
        self._have: dict[int, int] = {}  # episode to revision taken in
        self._wanted: dict[int, _Wanted] = {}
        self._given_up: list[int] = []

    def add(
        self, episode: int, revision: int, piece: int, pieces: int, data: bytes, sha256: str
    ) -> Episode | None:
        """Take one piece; return the episode it completes, unless it was taken in before.

        Args:
            episode: Number, from 1.
            revision: Of the verdict.
            piece: Index of the piece, from 0.
            pieces: Number of pieces.
            data: The piece.
            sha256: Hash of the whole payload.

        Raises:
            EpisodeError: The payload is damaged or no sound episode; it will be asked for again.
        """
        if self._have.get(episode, -1) >= revision:
            return None
        if not 0 <= piece < pieces <= MOST_PIECES or len(data) > MOST_PIECE_BYTES:
            raise EpisodeError(
                f"episode {episode}: piece {piece} of {pieces} with {len(data)} bytes; at most "
                f"{MOST_PIECES} pieces of {MOST_PIECE_BYTES} bytes are taken; refused"
            )
        key = (episode, revision, pieces, sha256)  # pieces of two senders never meet
        parts = self._pieces.setdefault(key, {})
        while len(self._pieces) > _MOST_OPEN:
            # Oldest first: what never becomes whole must not fill the memory.
            del self._pieces[next(iter(self._pieces))]
        parts[piece] = data
        if len(parts) < pieces:
            return None
        del self._pieces[key]
        payload = b"".join(parts[number] for number in sorted(parts))
        found = tensorfile.sha256(payload)
        if found != sha256:
            raise EpisodeError(
                f"episode {episode}: payload of {len(payload)} bytes has hash {found[:12]}…, "
                f"announced {sha256[:12]}…; refused, it will be asked for again"
            )
        taken = Episode.from_bytes(payload)
        if (taken.episode, taken.revision) != (episode, revision):
            raise EpisodeError(
                f"payload announced as episode {episode} revision {revision} holds episode "
                f"{taken.episode} revision {taken.revision}; refused"
            )
        self.have(episode, revision)
        return taken

    def have(self, episode: int, revision: int) -> None:
        """Note that an episode was taken in, from here or from disk."""
        self._have[episode] = max(revision, self._have.get(episode, -1))
        wanted = self._wanted.get(episode)
        if wanted is not None and wanted.revision <= revision:
            del self._wanted[episode]

    def expect(self, episode: int, revision: int, now_s: float) -> None:
        """Note that an episode exists; without it after a while it is asked for."""
        known = self._wanted.get(episode)
        if known is not None:
            known.revision = max(known.revision, revision)
        elif self._have.get(episode, -1) < revision:
            self._wanted[episode] = _Wanted(revision, now_s + self._patience_s)

    def expect_all(self, episodes: range, now_s: float) -> None:
        """Note that episodes of these numbers may exist; used when coming up within a run.

        Only the newest ten thousand: a nonsensical number must not stop the node.
        """
        for episode in episodes[-_MOST_EXPECTED:]:
            self.expect(episode, 0, now_s)

    @property
    def waits(self) -> bool:
        """Whether an episode is known of that has neither come nor been given up."""
        return bool(self._wanted)

    def forget(self, episode: int) -> None:
        """Note that an episode cannot be had: it left no bag, or is not fit for training."""
        self._wanted.pop(episode, None)

    def to_ask(self, now_s: float) -> list[int]:
        """Return the episodes to ask for now, each a few times at most."""
        due = [number for number, wanted in self._wanted.items() if now_s >= wanted.next_s]
        for number in due:
            wanted = self._wanted[number]
            wanted.tries += 1
            wanted.next_s = now_s + self._patience_s
            if wanted.tries > _TRIES:
                del self._wanted[number]
                self._given_up.append(number)
        return [number for number in due if number in self._wanted]

    def given_up(self) -> list[int]:
        """Return, once, the episodes that were asked for in vain."""
        numbers, self._given_up = self._given_up, []
        return numbers
