"""What became of a press: taken, refused with its reason, or answered by nobody."""

from __future__ import annotations

from dataclasses import dataclass

from resfit_core.control.press import Press
from resfit_core.control.records import EndedBy, EpisodeState, Phase
from resfit_reward.panel.view import BAD, CALM, OK, WARN, Answer

SILENT_S = 1.0
"""A press without any answer for so long is said to be lost."""
MANAGER, DRIVER = "episode_manager", "vega_driver"
_SAID_AT_ONCE = {
    Press.PAUSE: "Pause: no new episode after this one",
    Press.START: "Start",
    Press.RESUME: "Going on",
    Press.ESTOP: "E-STOP",
    Press.REARM: "Re-arm asked for",
    Press.STOP: "The run stops",
}
_NOUN = {
    EndedBy.SUCCESS: "success",
    EndedBy.FAILURE: "failure",
    EndedBy.TIMEOUT: "time-out",
    EndedBy.ABORTED: "aborted",
}


@dataclass(frozen=True)
class _Open:
    kind: Press
    source: str
    since_s: float


class Dialogue:
    """Joins each press with what the episode manager made of it.

    The manager says a state that names who pressed, or logs why it ignored the press. Both are
    heard here, so one colour and one tone of the page confirm every input, the pedal's included.
    """

    def __init__(self) -> None:
        """Start with nothing said."""
        self._open: _Open | None = None
        self._answer = Answer()

    def press(self, kind: Press, source: str, now_s: float) -> None:
        """Take a press."""
        if kind in (Press.ESTOP, Press.REARM) and self._answer.text == _SAID_AT_ONCE[kind]:
            return  # said again until the driver has it
        if kind in _SAID_AT_ONCE:
            self._say(BAD if kind == Press.ESTOP else OK, _SAID_AT_ONCE[kind])
        else:
            self._open = _Open(kind, source, now_s)

    def state(self, state: EpisodeState) -> None:
        """Take a state: it may be the answer."""
        asked = self._open
        if asked is None:
            return
        named = f"by {asked.source}" in state.reason
        if state.phase == Phase.ENDED and named:
            self._open = None
            self._say(OK if state.ended_by != EndedBy.FAILURE else WARN, _ended(asked.kind, state))
        elif asked.kind == Press.RESET_DONE and (named or state.phase == Phase.RUNNING):
            self._open = None
            self._say(OK, "Scene confirmed")

    def warning(self, node: str, text: str) -> None:
        """Take a logged warning: it may be why a press was ignored."""
        if node == DRIVER and text.startswith("not re-armed"):
            self._say(WARN, text[:1].upper() + text[1:])
        elif node == MANAGER and " ignored: " in text:
            kind = self._open.kind.name if self._open else ""
            if kind and not text.startswith(kind):
                return
            self._open = None
            self._say(WARN, text)

    def answer(self, now_s: float) -> Answer:
        """Return the newest answer; a press that nobody answered is told as well."""
        asked = self._open
        if asked is not None and now_s - asked.since_s > SILENT_S:
            self._open = None
            self._say(BAD, f"{asked.kind.name}: no answer from the episode manager")
        return self._answer

    def _say(self, tone: str, text: str) -> None:
        self._answer = Answer(self._answer.number + 1, tone or CALM, text)


def _ended(kind: Press, state: EpisodeState) -> str:
    if kind == Press.UNDO:
        return f"Episode {state.episode}: verdict taken back"
    step = f", step {state.credited_step}" if state.credited_step >= 0 else ""
    return f"Episode {state.episode}: {_NOUN.get(EndedBy(state.ended_by), 'ended')}{step}"
