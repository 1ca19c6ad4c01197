"""What the panel knows: fed with what the graph says, asked for one `View`.

No ROS, no page, no thread: times are handed in (steady clock, seconds), so that every banner and
every colour is tested as plain Python.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from resfit_core.control.episode import ALL_DONE
from resfit_core.control.press import ORACLE, Press
from resfit_core.control.records import EndedBy, EpisodeState, Mode, Phase, Source
from resfit_core.run_log import EpisodeLine
from resfit_reward.panel import answers
from resfit_reward.panel.estop import EStop
from resfit_reward.panel.health import Driver, Health, Learner
from resfit_reward.panel.history import WINDOW, History
from resfit_reward.panel.loop import Loop, LoopHealth
from resfit_reward.panel.view import BAD, CALM, OK, WARN, Banner, Message, View

GO = "GO"
"""Name of the button that starts a waiting run and confirms a reset scene."""
_SHOWN_EPISODES, _SHOWN_MESSAGES = 8, 6
_COME_UP_S = 20.0
_TONES = {
    Phase.IDLE: WARN,
    Phase.RESETTING: CALM,
    Phase.READY: CALM,
    Phase.RUNNING: OK,
    Phase.ENDED: CALM,
    Phase.PAUSED: WARN,
    Phase.FINISHED: CALM,
}
_DECIDED = (EndedBy.SUCCESS, EndedBy.FAILURE)


class PanelState:
    """Everything behind the page. Not thread-safe: the node feeds and asks it on one thread."""

    def __init__(self, expected: Iterable[str] = (), now_s: float = 0.0) -> None:
        """Start with nothing heard.

        Args:
            expected: Names of the nodes that the run consists of.
            now_s: Steady clock [s].
        """
        self._expected, self._started_s = tuple(expected), now_s
        self.estop = EStop()
        self.history = History()
        self._state: EpisodeState | None = None
        self._ended: EpisodeState | None = None
        self._taken_over: set[int] = set()
        self._present: frozenset[str] = frozenset()
        self._seen: set[str] = set()
        self._health, self._loop = Health(), LoopHealth()
        self._dialogue = answers.Dialogue()
        self._messages: deque[Message] = deque(maxlen=_SHOWN_MESSAGES)
        self._cameras: tuple[str, ...] = ()
        self._question = ""

    # --- what the graph says -------------------------------------------------------------------

    def log_lines(self, lines: Iterable[EpisodeLine]) -> None:
        """Take the run's log: what happened before the panel was there."""
        for line in lines:
            self.history.line(line)

    def episode(self, state: EpisodeState, now_s: float) -> None:
        """Take a state of the run, or the correction of an earlier episode.

        Raises:
            ValueError: There is no such phase, mode or end; nothing is taken then.
        """
        Phase(state.phase), Mode(state.mode), EndedBy(state.ended_by)
        if state.phase == Phase.ENDED:
            self._ended = state
            self.history.ended(state, taken_over=state.episode in self._taken_over)
        if not state.corrects_older_than(self._state):
            self._state = state
        self._dialogue.state(state)

    def driver(self, news: Driver, now_s: float) -> None:
        """Take the driver's word."""
        runs = self._state is not None and self._state.phase == Phase.RUNNING
        if runs and news.source == Source.TELEOP:
            self._taken_over.add(self._state.episode)
        self._health.hear_driver(news, now_s)
        self.estop.driver(news.estopped)

    def learner(self, news: Learner, now_s: float) -> None:
        """Take the learner's word."""
        self._health.hear_learner(news, now_s)

    def loop(self, news: Loop, now_s: float) -> None:
        """Take a node's word on how the control loop keeps time."""
        self._loop.hear(news, now_s)

    def guess(self, question: str) -> None:
        """Take what the success classifier asks; empty: nothing any more."""
        self._question = question

    def recorded(self, dropped: int, reason: str) -> None:
        """Take the recorder's word on one closed episode: steps left out, what it lacks."""
        self._health.hear_recorder(dropped, reason)

    def nodes(self, present: Iterable[str]) -> None:
        """Take the names of all nodes that are there now."""
        self._present = frozenset(present)
        self._seen |= self._present

    def cameras(self, publishing: Iterable[str]) -> None:
        """Take the names of the cameras that publish now."""
        self._cameras = tuple(publishing)

    def press(self, kind: Press, source: str, now_s: float) -> None:
        """Take a press, made here or on any other device."""
        if source != ORACLE:
            self._dialogue.press(kind, source, now_s)

    def message(self, node: str, text: str, *, error: bool) -> None:
        """Take a warning or an error that a node logged; a repeated one is counted."""
        self._dialogue.warning(node, text)
        last = self._messages[0] if self._messages else None
        if last is not None and (last.node, last.text) == (node, text):
            self._messages[0] = Message(node, text, last.tone, last.count + 1)
        else:
            self._messages.appendleft(Message(node, text, BAD if error else WARN))

    # --- what a person wants -------------------------------------------------------------------

    def meaning(self, button: str) -> Press:
        """Return the press that a button of the page stands for now.

        Raises:
            ValueError: There is no such button; names those that exist.
        """
        waits = self._state is not None and self._state.phase in (Phase.IDLE, Phase.PAUSED)
        if button == GO:
            return Press.START if waits else Press.RESET_DONE
        if button == Press.PAUSE.name:
            return Press.RESUME if waits else Press.PAUSE
        try:
            return Press[button]
        except KeyError:
            known = ", ".join([GO, *(p.name for p in Press)])
            raise ValueError(f"no button '{button}'; known: {known}") from None

    # --- what is shown -------------------------------------------------------------------------

    def view(self, now_s: float) -> View:
        """Return this moment."""
        state, estop = self._state, self._estop_text(now_s)
        shared = {
            "banners": tuple(self._banners(now_s)),
            "estop": "latched"
            if self.estop.latched
            else "asked"
            if self.estop.wanted
            else "ready",
            "estop_text": estop,
            "answer": self._dialogue.answer(now_s),
            "learner": self._health.learner_tiles(now_s),
            "control": self._health.control_tiles(now_s) + self._loop.tiles(now_s),
            "curve": self.history.curve,
            "episodes": self.history.last(_SHOWN_EPISODES),
            "messages": tuple(self._messages),
            "nodes": tuple((n, self._node_tone(n, now_s)) for n in self._expected),
            "cameras": self._cameras,
            "lit": self._lit(),
        }
        if state is None:
            return View(**shared)
        phase = Phase(state.phase)
        return View(
            run=state.run_id,
            phase=phase.name,
            tone=self._phase_tone(phase),
            headline=_headline(state),
            reason=state.reason,
            progress=_progress(state),
            **shared,
        )

    def _phase_tone(self, phase: Phase) -> str:
        if phase == Phase.ENDED:
            ended_by = self._state.ended_by
            return {EndedBy.SUCCESS: OK, EndedBy.ABORTED: WARN}.get(ended_by, CALM)
        return _TONES[phase]

    def _lit(self) -> frozenset[str]:
        """Return the names of the buttons that would do something now."""
        lit = {Press.ESTOP}
        if self.estop.wanted or self.estop.latched:
            lit.add(Press.REARM)
        phase = None if self._state is None else self._state.phase
        if phase == Phase.RUNNING:
            lit |= {Press.SUCCESS, Press.FAILURE, Press.ABORT}
        if self._ended is not None and phase != Phase.FINISHED:
            undone = self._ended.ended_by == EndedBy.ABORTED and self._ended.revision > 0
            if self._ended.ended_by in _DECIDED:
                lit.add(Press.UNDO)
            elif undone or self._ended.ended_by == EndedBy.TIMEOUT:
                lit |= {Press.SUCCESS, Press.FAILURE}
        if phase not in (None, Phase.FINISHED):
            lit |= {Press.STOP, Press.PAUSE}
        names = {Press(p).name for p in lit}
        return frozenset(names | ({GO} if self._may_go(phase) else set()))

    def _may_go(self, phase: int | None) -> bool:
        if self.estop.wanted or self.estop.latched:
            return False  # it would run into the hold
        if phase == Phase.READY:
            return Press.RESET_DONE.name in self._state.reason
        if phase == Phase.IDLE and self._state.reason.startswith(ALL_DONE):
            return False  # it waits for the learner alone
        return phase in (Phase.IDLE, Phase.PAUSED, Phase.RESETTING)

    def _estop_text(self, now_s: float) -> str:
        if self.estop.unanswered(now_s):
            return "E-stop asked for, the driver has NOT confirmed: use the robot's own stop"
        if self.estop.wanted or self.estop.latched:
            by = f" by {self.estop.by}" if self.estop.by else ""
            return f"E-stop{by}: the driver {'holds' if self.estop.latched else 'is told'}"
        return ""

    def _banners(self, now_s: float) -> Iterable[Banner]:
        text = self._estop_text(now_s)
        if text:
            yield Banner(BAD, text)
        finished = self._state is not None and self._state.phase == Phase.FINISHED
        if finished:
            yield Banner(OK, f"The run is finished: {self._state.reason}")
            return
        gone = [n for n in self._expected if self._node_tone(n, now_s) == BAD]
        if gone:
            verb = "is" if len(gone) == 1 else "are"
            yield Banner(BAD, f"{', '.join(gone)} {verb} gone; the run starts it again if it can")
        missing = [n for n in self._expected if self._node_tone(n, now_s) == WARN]
        if missing:
            yield Banner(WARN, f"not there yet: {', '.join(missing)}")
        running = self._state is not None and self._state.phase == Phase.RUNNING
        yield from self._health.banners(now_s, running=running, gone=gone)
        if running and self._state.mode == Mode.TRAIN and not self._state.use_residual:
            yield Banner(WARN, f"The base acts alone: {self._state.reason}")
        if running and self._question:
            yield Banner(WARN, f"The classifier {self._question}")
        recent = self.history.curve.recent
        if recent.trials >= WINDOW and not recent.successes:
            yield Banner(
                WARN, f"No reward in the last {recent.trials} episodes: is success pressed, and "
                "can the base do this task?",
            )  # fmt: skip

    def _node_tone(self, name: str, now_s: float) -> str:
        if name in self._present:
            return OK
        if name in self._seen:
            return BAD
        return WARN if now_s - self._started_s > _COME_UP_S else CALM


def _headline(state: EpisodeState) -> str:
    if state.episode == 0:
        return "No episode yet"
    of = f" of {state.episodes_planned}" if state.episodes_planned else ""
    who = {
        Mode.WARMUP: "warm-up, the base explores",
        Mode.DEMO: "demonstration",
        Mode.TRAIN: "training" if state.use_residual else "training, base alone",
        Mode.EVALUATE: _evaluation(state),
    }[Mode(state.mode)]
    return f"Episode {state.episode}{of} · {who}"


def _evaluation(state: EpisodeState) -> str:
    if not state.label:
        return "evaluation"
    return f"blind evaluation, round {state.round}, {state.label}"


def _progress(state: EpisodeState) -> float:
    if not state.episodes_planned:
        return -1.0
    if state.phase == Phase.FINISHED:
        return 1.0
    done = state.episode - (state.phase != Phase.ENDED)
    return min(1.0, max(0.0, done / state.episodes_planned))
