"""What the panel shows at one moment: immutable, in words, without HTML."""

from __future__ import annotations

from dataclasses import dataclass, field

from resfit_reward.panel.ghost import Shown
from resfit_reward.panel.history import Curve, Episode

OK, WARN, BAD, CALM = "ok", "warn", "bad", "calm"
"""Tones: all is well, look at it, act now, nothing to say."""


@dataclass(frozen=True)
class Banner:
    """One line across the page."""

    tone: str
    text: str


@dataclass(frozen=True)
class Tile:
    """One number with its name; `note` says how to read it."""

    label: str
    value: str
    note: str = ""
    tone: str = CALM


@dataclass(frozen=True)
class Answer:
    """What became of a press; `number` grows with each, so that a page flashes once."""

    number: int = 0
    tone: str = CALM
    text: str = ""


@dataclass(frozen=True)
class Message:
    """A warning that a node logged."""

    node: str
    text: str
    tone: str
    count: int = 1


@dataclass(frozen=True)
class View:
    """One moment.

    Attributes:
        run: Name of the run; empty: none heard of yet.
        phase: In words, as the run says it; `tone` how it is coloured.
        headline: Which episode of how many, in which mode.
        reason: Why the last change happened.
        progress: Share of the episodes done, 0..1; -1: open end.
        banners: What must be seen, most urgent first.
        lit: Names of the presses that would be taken now.
        estop: `ready`, `asked` or `latched`.
        estop_text: The same for a person.
        answer: What became of the last press.
        learner: Health of the learner.
        control: Health of driver and control.
        curve: Success so far.
        episodes: The newest ones.
        messages: Warnings of the nodes, newest first.
        nodes: (name, tone) of each node of the run.
        cameras: Names of those that publish.
        ghosts: A blind round's first pictures, to be laid over the cameras.
    """

    run: str = ""
    phase: str = "WAITING"
    tone: str = CALM
    headline: str = "No run heard of yet"
    reason: str = ""
    progress: float = -1.0
    banners: tuple[Banner, ...] = ()
    lit: frozenset[str] = frozenset()
    estop: str = "ready"
    estop_text: str = ""
    answer: Answer = Answer()
    learner: tuple[Tile, ...] = ()
    control: tuple[Tile, ...] = ()
    curve: Curve = field(default_factory=Curve)
    episodes: tuple[Episode, ...] = ()
    messages: tuple[Message, ...] = ()
    nodes: tuple[tuple[str, str], ...] = ()
    cameras: tuple[str, ...] = ()
    ghosts: tuple[Shown, ...] = ()
