"""Episodes on their way to the learner: pieces joined, hashes checked, missing ones named."""

from __future__ import annotations

import dataclasses

from resfit_core import tensorfile
from resfit_core.data.episode import Episode, EpisodeError

_TRIES = 5  # answers of the recorder after which nothing came
_AT_ONCE = 4  # episodes asked for and under way: what is missed after a long cut comes in turn
_MOST_EXPECTED = 10_000  # a nonsensical number must not stop the node
_LONGEST_WAIT = 8  # of `patience_s`, between two askings
MOST_PIECES, MOST_PIECE_BYTES, _MOST_OPEN = 4096, 1 << 21, 8
"""What an episode's pieces may be at most: number and size [bytes]; and episodes under way."""


@dataclasses.dataclass
class _Wanted:
    revision: int
    next_s: float  # ask again at this time
    asked: int = 0
    unanswered: int = 0  # askings since the last answer
    answered: int = 0  # times in a row that it was said to be on its way
    again: bool = False  # it may be here already: asked for to hear of a corrected verdict


class EpisodeIntake:
    """Takes pieces of episodes in and says which episodes to ask for. Not thread-safe.

    The recorder may be on another machine, and away for minutes. Whatever was closed meanwhile is
    asked for until the recorder has answered: only its word makes the learner do without one.
    """

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
        self._without: set[int] = set()  # closed, but not to be had
        self._moved: set[int] = set()  # a piece came
        self._heard_of = 0
        self._up: bool | None = None  # None: the recorder was never there
        self._doubtful: set[int] = set()  # a correction of these may have been missed
        self._doubtful_at_s = 0.0

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
            wanted = self._wanted.get(episode)
            if wanted is not None and wanted.revision <= self._have[episode]:
                del self._wanted[episode]
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
        self._moved.add(episode)
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
        self._without.discard(episode)
        if self._have.get(episode, -1) >= revision:
            return
        known = self._wanted.get(episode)
        if known is not None:
            known.revision, known.again = max(known.revision, revision), False
        else:
            self._wanted[episode] = _Wanted(revision, now_s + self._patience_s)

    def heard_of(self, episode: int, now_s: float) -> None:
        """Note the number of the running or last episode: all before it are closed.

        What is known of them already is left alone; the others were closed before this learner
        came up, or while it could not hear of them.
        """
        if episode <= self._heard_of:
            return
        if self._heard_of and episode > self._heard_of + 1:
            self._doubt(now_s)
        for number in range(max(1, self._heard_of, episode - _MOST_EXPECTED), episode):
            if number not in self._without:
                self.expect(number, 0, now_s)
        self._heard_of = episode

    @property
    def waits(self) -> bool:
        """Whether an episode is known of that has neither come nor been given up."""
        return bool(self._wanted)

    def forget(self, episode: int) -> None:
        """Note that an episode cannot be had: it left no bag, or is not fit for training."""
        self._without.add(episode)
        self._wanted.pop(episode, None)

    def link(self, up: bool, now_s: float) -> bool:
        """Note whether the recorder can be reached; return it.

        After a silence the last episodes are asked for again: their verdict may have been
        corrected.
        """
        if self._up is not None and up != self._up:
            self._doubt(now_s)
        if up or self._up is not None:
            self._up = up
        return up

    def to_ask(self, now_s: float) -> list[int]:
        """Return the episodes to ask for now, oldest first, a few at once."""
        if self._doubtful and self._up and now_s >= self._doubtful_at_s:
            for number in {*self._doubtful, self._heard_of - 1, self._heard_of}:
                if number > 0 and number not in self._wanted:
                    self._wanted[number] = _Wanted(0, now_s, again=True)
            self._doubtful.clear()
        for number in self._moved & self._wanted.keys():
            wanted = self._wanted[number]
            wanted.next_s, wanted.answered = max(wanted.next_s, now_s + self._patience_s), 0
        self._moved.clear()
        waiting = sum(w.asked > 0 and now_s < w.next_s for w in self._wanted.values())
        due = sorted(number for number, wanted in self._wanted.items() if now_s >= wanted.next_s)
        due = due[: max(0, _AT_ONCE - waiting)]
        for number in due:
            wanted = self._wanted[number]
            wait = min(2**wanted.unanswered, _LONGEST_WAIT) * self._patience_s
            wanted.asked, wanted.unanswered = wanted.asked + 1, wanted.unanswered + 1
            wanted.next_s = now_s + wait
        return due

    def answered(self, episode: int, is_there: bool) -> bool:
        """Take the recorder's answer; return whether the episode must be done without."""
        wanted = self._wanted.get(episode)
        if wanted is None:
            return False
        wanted.unanswered, wanted.answered = 0, wanted.answered + 1
        if is_there and wanted.answered < _TRIES:
            return False
        del self._wanted[episode]
        return not wanted.again

    def _doubt(self, now_s: float) -> None:
        # A verdict can be changed until the next episode has ended.
        self._doubtful |= {self._heard_of - 1, self._heard_of}
        self._doubtful_at_s = now_s + self._patience_s
