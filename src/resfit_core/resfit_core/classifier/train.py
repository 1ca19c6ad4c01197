"""Learn from recorded episodes what success looks like, and measure it on episodes held out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch

from resfit_core.classifier.net import Classifier, ClassifierError, SuccessNet, loss, stack
from resfit_core.classifier.watch import SuccessWatch, Thresholds, Word
from resfit_core.contract import Contract
from resfit_core.data.bag_reader import RecordedEpisode
from resfit_core.intervals import wilson
from resfit_core.nets.encoder import random_shift

_LEAST = 4  # episodes of each kind: one in four is held out


@dataclasses.dataclass(frozen=True)
class Settings:
    """How it is trained.

    Attributes:
        steps: Optimiser steps.
        batch_size: Moments per step; a third of them successes.
        learning_rate: Highest; it falls to zero over the steps.
        tail: Last moments of a success that show it.
        margin: Moments before these that show neither: they are left out.
        shift: Pixels by which pictures are moved at random.
        held_out: One episode of so many is held out, of successes and failures alike.
        seed: Of weights and batches.
    """

    steps: int = 600
    batch_size: int = 48
    learning_rate: float = 1e-3
    tail: int = 3
    margin: int = 6
    shift: int = 4
    held_out: int = 4
    seed: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Film:
    """What the classifier sees of an episode.

    Attributes:
        number: Of the episode.
        pictures: uint8 (T + 1, size, size, 3 * cameras).
        success: How it ended.
    """

    number: int
    pictures: np.ndarray
    success: bool


@dataclasses.dataclass(frozen=True)
class Measured:
    """What became of the episodes held out, and of their moments.

    Attributes:
        episodes: Held out.
        successes: Of these.
        right: Success pressed, where and when there was one.
        wrong: Success pressed in a failure, or too early in a success.
        asked: Successes in which the operator was asked and success was not pressed.
        missed: Successes passed over in silence.
        asked_in_vain: Failures in which the operator was asked.
    """

    episodes: int = 0
    successes: int = 0
    right: int = 0
    wrong: int = 0
    asked: int = 0
    missed: int = 0
    asked_in_vain: int = 0

    @property
    def precision(self) -> float:
        """Right presses of all presses; NaN without one."""
        pressed = self.right + self.wrong
        return self.right / pressed if pressed else float("nan")

    @property
    def recall(self) -> float:
        """Right presses of all successes; NaN without one."""
        return self.right / self.successes if self.successes else float("nan")

    def to_dict(self) -> dict[str, object]:
        """Return the numbers with precision, recall and their 95 % Wilson intervals."""
        pressed = self.right + self.wrong
        found: dict[str, object] = dataclasses.asdict(self)
        for name, of in (("precision", pressed), ("recall", self.successes)):
            found[name] = round(self.right / of, 4) if of else None
            found[f"{name}_ci95"] = [round(x, 4) for x in wilson(self.right, of)] if of else None
        return found


def film(episode: RecordedEpisode) -> Film:
    """Return an episode as the classifier sees it.

    Raises:
        ClassifierError: It has no pictures.
    """
    if not episode.images:
        raise ClassifierError(
            f"episode {episode.episode} has no pictures: record with observation:=pixels"
        )
    return Film(episode.episode, stack(episode.images), episode.verdict.success)


def split(films: Iterable[Film], one_in: int) -> tuple[list[Film], list[Film]]:
    """Return the films to learn from and those held out, both with successes and failures.

    Raises:
        ClassifierError: Too few of one kind.
    """
    listed = list(films)
    learn, held = [], []
    for success in (True, False):
        kind = [f for f in listed if f.success == success]
        if len(kind) < _LEAST:
            word = "successes" if success else "failures"
            raise ClassifierError(
                f"{len(kind)} of {len(listed)} episodes are {word}, {_LEAST} or more are needed: "
                "record more of them"
            )
        for i, item in enumerate(kind):
            (held if i % one_in == one_in - 1 else learn).append(item)
    return learn, held


def train(
    films: Sequence[Film],
    contract: Contract,
    settings: Settings | None = None,
    thresholds: Thresholds | None = None,
    progress: Callable[[int, int, float], None] | None = None,
) -> Classifier:
    """Fit the net; one seed and one thread give the same net again.

    Args:
        films: To learn from.
        contract: Names the cameras; its hash goes into the file.
        settings: See there.
        thresholds: Go into the file.
        progress: Called with (step, steps, loss) now and then.
    """
    it = settings or Settings()
    done, before = _moments(films, it)
    torch.manual_seed(it.seed)
    generator, rng = torch.Generator().manual_seed(it.seed), np.random.default_rng(it.seed)
    net = SuccessNet(len(contract.images), films[0].pictures.shape[1])
    optimiser = torch.optim.AdamW(net.parameters(), it.learning_rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, it.learning_rate, it.steps)
    third = max(1, it.batch_size // 3)
    labels = torch.cat([torch.ones(third), torch.zeros(it.batch_size - third)])
    for step in range(1, it.steps + 1):
        pictures = _draw(done, third, rng) + _draw(before, it.batch_size - third, rng)
        batch = random_shift(torch.from_numpy(np.stack(pictures)), it.shift, generator).float()
        # Light and contrast differ from day to day.
        gain = 1 + 0.15 * torch.randn(it.batch_size, 1, 1, 1, generator=generator)
        offset = 12 * torch.randn(it.batch_size, 1, 1, 1, generator=generator)
        value = loss(net((batch * gain + offset).clamp(0, 255)), labels)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        schedule.step()
        if progress is not None and (step % 50 == 0 or step == it.steps):
            progress(step, it.steps, float(value.detach()))
    net.eval().requires_grad_(False)
    made_from = {
        "episodes": len(films),
        "successes": sum(f.success for f in films),
        "settings": dataclasses.asdict(it),
    }
    return Classifier(
        net, contract.images, contract.image_size, contract.sha256, thresholds or Thresholds(),
        made_from,
    )  # fmt: skip


def measure(classifier: Classifier, films: Iterable[Film], early: int) -> Measured:
    """Let it watch whole episodes, as it does live.

    Args:
        classifier: Trained on others.
        films: Held out.
        early: So many moments before its end a success may be pressed.
    """
    tally = Measured()
    for item in films:
        watch, asked, pressed = SuccessWatch(classifier.thresholds), False, None
        for moment, probability in enumerate(classifier.probabilities(item.pictures)):
            word = watch.look(float(probability))
            asked = asked or word == Word.ASK
            if word == Word.PRESS:
                pressed = moment
                break
        right = pressed is not None and item.success and pressed >= len(item.pictures) - early
        tally = Measured(
            tally.episodes + 1,
            tally.successes + item.success,
            tally.right + right,
            tally.wrong + (pressed is not None and not right),
            tally.asked + (item.success and pressed is None and asked),
            tally.missed + (item.success and pressed is None and not asked),
            tally.asked_in_vain + (not item.success and pressed is None and asked),
        )
    return tally


def _moments(films: Sequence[Film], it: Settings) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the pictures that show success, and those that do not."""
    done: list[np.ndarray] = []
    before: list[np.ndarray] = []
    for item in films:
        end = len(item.pictures)
        if item.success:
            done += list(item.pictures[max(0, end - it.tail) :])
            end = max(0, end - it.tail - it.margin)
        # The last ones are the hard ones: all of them, of the others every second.
        before += list(item.pictures[max(0, end - 30) : end])
        before += list(item.pictures[0 : max(0, end - 30) : 2])
    return done, before


def _draw(from_: Sequence[np.ndarray], count: int, rng: np.random.Generator) -> list[np.ndarray]:
    return [from_[i] for i in rng.integers(0, len(from_), count)]
