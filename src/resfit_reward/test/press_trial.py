"""Thousands of presses at random moments, and what each must do to the rewards.

`Trial` drives an `EpisodeManager` through a stream of messages in the order in which they arrive:
steps late and with jitter, presses early, late, double, contradictory and taken back. What must
come out is worked out beside it from the definition alone: a press credits the step k with
`t_k < press - reaction <= t_k+1`. Shared by the test and by `make bench-operator`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from resfit_core.control.budget import UpdateBudget
from resfit_core.control.episode import EpisodeManager
from resfit_core.control.episode_parts import Clocks, EpisodeSettings, Record
from resfit_core.control.guard import Guard
from resfit_core.control.plan import make_plan
from resfit_core.control.press import OperatorEvent, Press
from resfit_core.control.records import EndedBy, EpisodeState, Phase
from resfit_core.control.run_book import RunBook

MS = 1_000_000
PERIOD, REACTION, HORIZON = 50 * MS, 200 * MS, 40
SOURCES = ("keyboard", "panel", "gamepad", "keypad", "topic")
WORD = {
    Press.SUCCESS: EndedBy.SUCCESS,
    Press.FAILURE: EndedBy.FAILURE,
    Press.ABORT: EndedBy.ABORTED,
}


class MemoryLog:
    """`EpisodeLog` without a disk."""

    def __init__(self) -> None:
        self.lines, self.open_episode, self.newest = [], None, {}

    def begin(self, line) -> None:
        self.open_episode = line

    def append(self, line) -> None:
        if line.revision >= self.newest.get(line.episode, line).revision:
            self.newest[line.episode] = line


@dataclass(frozen=True)
class Outcome:
    """How an episode must end: by what, crediting which step, with which reward."""

    ended_by: EndedBy
    step: int

    @property
    def reward(self) -> float:
        return float(self.ended_by == EndedBy.SUCCESS)


@dataclass
class Tally:
    """What was tried and what went wrong."""

    episodes: int = 0
    wrong: list[str] = field(default_factory=list)
    kinds: dict[str, int] = field(default_factory=dict)


class Trial:
    """One run of many episodes; `lockstep` or real time."""

    def __init__(self, seed: int, episodes: int, *, lockstep: bool) -> None:
        self.random, self.lockstep = random.Random(seed), lockstep
        self.now = 1_000 * MS
        self.log, self.newest = MemoryLog(), {}
        settings = EpisodeSettings(
            "trial", lockstep, PERIOD, HORIZON, reaction_ns=REACTION, failures_allowed=10**9
        )
        book = RunBook(
            make_plan("train", episodes=episodes + 1), self.log, 10**9, Guard(confidence=0)
        )
        self.manager = EpisodeManager(
            book, settings, UpdateBudget(max_owed=0, wait=False), self,
            Clocks(lambda: self.now, lambda: self.now / 1e9, lambda: self.now),
        )  # fmt: skip
        self.tally = Tally()
        self.expected: dict[int, Outcome] = {}
        self.manager.start()

    # --- the manager's outlet ------------------------------------------------------------------

    def publish(self, state: EpisodeState) -> None:
        if state.phase == Phase.ENDED:
            known = self.newest.get(state.episode)
            if known is None or state.revision > known.revision:
                self.newest[state.episode] = state

    def reset_scene(self, episode: int, seed: int) -> None:
        pass

    def absent(self) -> str:
        return ""

    def warn(self, text: str) -> None:
        pass

    # --- one episode ---------------------------------------------------------------------------

    def episode(self) -> None:
        """Run one episode with presses of a random kind; what it must come to is noted."""
        name = self.random.choice(sorted(SCENARIOS))
        self.now += 2_000 * MS
        start = self.now
        self.manager.scene(self.manager.state.episode, True, "", start if self.lockstep else 0)
        assert self.manager.state.phase == Phase.RUNNING
        number = self.manager.state.episode
        stamps = [start]
        for _ in range(HORIZON - 1):
            jitter = 0 if self.lockstep else self.random.randint(-12 * MS, 12 * MS)
            stamps.append(start + len(stamps) * PERIOD + jitter)
        self.expected[number] = SCENARIOS[name](self, stamps)
        self.tally.episodes += 1
        self.tally.kinds[name] = self.tally.kinds.get(name, 0) + 1
        if self.manager.state.phase == Phase.ENDED:
            self.close()

    def close(self) -> None:
        state = self.manager.state
        self.manager.recorded(Record(state.episode, state.credited_step + 1, 1, has_bag=True))

    def live(self, stamps: list[int], presses: list[tuple[int, OperatorEvent]]) -> None:
        """Deliver steps and presses in the order in which they arrive, the clock going on."""
        late = 0 if self.lockstep else 40 * MS
        mail, arrives = [], 0
        for stamp in stamps:  # late, but in order: there is one sender
            arrives = max(arrives + 1, stamp + self.random.randint(0, late))
            mail.append((arrives, 1, stamp))
        mail += [(at + self.random.randint(0, late // 2), 0, press) for at, press in presses]
        after = 0  # steps under way when the episode ends still arrive, and must change nothing
        for arrives, _, what in sorted(mail, key=lambda m: m[:2]):
            self.now = max(self.now, arrives)
            self.manager.tick()
            if isinstance(what, OperatorEvent):
                self.manager.event(what)
            elif after < 2:
                self.manager.executed(what, 0)
                after += self.manager.state.phase != Phase.RUNNING
        for _ in range(4):
            self.now += 50 * MS
            self.manager.tick()
        if self.lockstep and self.manager.state.phase == Phase.RUNNING:
            end = stamps[-1] + PERIOD
            self.manager.event(OperatorEvent(Press.TIMEOUT, "oracle", stamp_ns=end))

    def press(self, kind: Press, at: int, episode: int = 0) -> tuple[int, OperatorEvent]:
        source = self.random.choice(SOURCES)
        return at, OperatorEvent(kind, source, stamp_ns=at, episode=episode)

    def moment(self, stamps: list[int]) -> tuple[int, int]:
        """Return a step and the stamp of a press that means it, edges of its interval included."""
        step = self.random.randrange(len(stamps) - 6)
        first, last = stamps[step] + 1, stamps[step + 1]
        at = self.random.choice((first, last, self.random.randint(first, last)))
        return step, at + REACTION

    def verdict(self) -> Press:
        return self.random.choice((Press.SUCCESS, Press.FAILURE))

    def check(self) -> Tally:
        """Compare what came out, in the states and in the log, with what had to."""
        for number, must in self.expected.items():
            state, line = self.newest[number], self.log.newest[number]
            is_now = (state.ended_by, state.credited_step, state.reward, state.terminated)
            terminates = must.ended_by in (EndedBy.SUCCESS, EndedBy.FAILURE)
            want = (must.ended_by, must.step, must.reward, terminates)
            logged = (line.ended_by, line.success, line.steps)
            if is_now != want:
                self.tally.wrong.append(f"episode {number}: {is_now} instead of {want}")
            elif logged != (must.ended_by.name.lower(), bool(must.reward), must.step + 1):
                self.tally.wrong.append(f"episode {number}: the log says {logged}, not {want}")
        return self.tally


# --- what people do ------------------------------------------------------------------------------


def once(trial: Trial, stamps: list[int]) -> Outcome:
    kind, (step, at) = trial.verdict(), trial.moment(stamps)
    trial.live(stamps, [trial.press(kind, at)])
    return Outcome(WORD[kind], step)


def double(trial: Trial, stamps: list[int]) -> Outcome:
    kind, (step, at) = trial.verdict(), trial.moment(stamps)
    more = [trial.press(kind, at + trial.random.randint(25, 400) * MS) for _ in range(2)]
    trial.live(stamps, [trial.press(kind, at), *more])
    return Outcome(WORD[kind], step)


def contradictory(trial: Trial, stamps: list[int]) -> Outcome:
    """The first word stands."""
    kind, (step, at) = trial.verdict(), trial.moment(stamps)
    other = Press.FAILURE if kind == Press.SUCCESS else Press.SUCCESS
    again = trial.press(other, at + trial.random.randint(25, 400) * MS)
    trial.live(stamps, [trial.press(kind, at), again])
    return Outcome(WORD[kind], step)


def early(trial: Trial, stamps: list[int]) -> Outcome:
    """What was pressed before the first step means nothing; the next press counts."""
    before = trial.press(trial.verdict(), stamps[0] + trial.random.randint(1, REACTION))
    kind, (step, at) = trial.verdict(), trial.moment(stamps)
    at += 6 * PERIOD
    step = sum(t < at - REACTION for t in stamps) - 1
    trial.live(stamps, [before, trial.press(kind, at)])
    return Outcome(WORD[kind], min(step, len(stamps) - 1))


def silent(trial: Trial, stamps: list[int]) -> Outcome:
    trial.live(stamps, [])
    return Outcome(EndedBy.TIMEOUT, len(stamps) - 1)


def late_within(trial: Trial, stamps: list[int]) -> Outcome:
    """The hand was slower than the clock: a time-out becomes the verdict that was meant."""
    kind = trial.verdict()
    trial.live(stamps, [])
    step = trial.random.randrange(len(stamps) - 4, len(stamps))
    end = trial.manager.state.end_ns
    after = stamps[step + 1] if step + 1 < len(stamps) else end
    _, event = trial.press(kind, trial.random.randint(stamps[step] + 1, after) + REACTION)
    _maybe_close(trial)
    trial.manager.event(event)
    return Outcome(WORD[kind], step)


def late_beyond(trial: Trial, stamps: list[int]) -> Outcome:
    trial.live(stamps, [])
    end = trial.manager.state.end_ns
    _, event = trial.press(trial.verdict(), end + REACTION + trial.random.randint(1, 900 * MS))
    _maybe_close(trial)
    trial.manager.event(event)
    return Outcome(EndedBy.TIMEOUT, len(stamps) - 1)


def undone(trial: Trial, stamps: list[int]) -> Outcome:
    done = once(trial, stamps)
    _maybe_close(trial)
    trial.manager.event(trial.press(Press.UNDO, trial.now)[1])
    return Outcome(EndedBy.ABORTED, done.step)


def undone_and_said_anew(trial: Trial, stamps: list[int]) -> Outcome:
    done, kind = undone(trial, stamps), trial.verdict()
    trial.manager.event(trial.press(kind, trial.now)[1])
    return Outcome(WORD[kind], done.step)


def undone_while_the_next_runs(trial: Trial, stamps: list[int]) -> Outcome:
    """The learner may have trained on it: a correction, which leaves the running one alone."""
    done, kind = once(trial, stamps), trial.verdict()
    number = trial.manager.state.episode
    trial.close()
    trial.now += 500 * MS
    start = trial.now
    trial.manager.scene(trial.manager.state.episode, True, "", start if trial.lockstep else 0)
    running = trial.manager.state
    named = trial.random.choice((0, number))
    trial.manager.event(trial.press(Press.UNDO, trial.now, episode=named)[1])
    result = Outcome(EndedBy.ABORTED, done.step)
    if trial.random.random() < 0.5:
        trial.manager.event(trial.press(kind, trial.now, episode=number)[1])
        result = Outcome(WORD[kind], done.step)
    if trial.manager.state != running:
        trial.tally.wrong.append(f"episode {running.episode} was touched by another's correction")
    stamps = [start + k * PERIOD for k in range(HORIZON)]
    kind, (step, at) = trial.verdict(), trial.moment(stamps)
    trial.live(stamps, [trial.press(kind, at)])
    trial.expected[running.episode] = Outcome(WORD[kind], step)
    return result


def aborted(trial: Trial, stamps: list[int]) -> Outcome:
    """Ends after the newest executed step; a verdict afterwards changes nothing."""
    at = trial.random.randint(stamps[2], stamps[-6])
    kind = trial.random.choice((Press.ABORT, Press.ESTOP))
    trial.live(stamps, [trial.press(kind, at), trial.press(trial.verdict(), at + 30 * MS)])
    _resume(trial)
    return Outcome(EndedBy.ABORTED, trial.newest[_last(trial)].credited_step)


def _last(trial: Trial) -> int:
    return max(trial.newest)


def _maybe_close(trial: Trial) -> None:
    if trial.random.random() < 0.5:
        trial.close()


def _resume(trial: Trial) -> None:
    """After an e-stop the run is paused until somebody starts it."""
    trial.close()
    trial.manager.event(OperatorEvent(Press.START, "panel"))


SCENARIOS: dict[str, Callable[[Trial, list[int]], Outcome]] = {
    f.__name__: f
    for f in (
        once, double, contradictory, early, silent, late_within, late_beyond, undone,
        undone_and_said_anew, undone_while_the_next_runs, aborted,
    )
}  # fmt: skip


def run(seed: int, episodes: int) -> Tally:
    """Run so many episodes, half in lock-step and half in real time."""
    total = Tally()
    for lockstep in (True, False):
        trial = Trial(seed + lockstep, episodes, lockstep=lockstep)
        while len(trial.expected) < episodes // 2:
            trial.episode()
        done = trial.check()
        total.episodes += len(trial.expected)
        mode = "lock-step" if lockstep else "real time"
        total.wrong += [f"{mode}: {text}" for text in done.wrong]
        for name, count in done.kinds.items():
            total.kinds[name] = total.kinds.get(name, 0) + count
    return total
