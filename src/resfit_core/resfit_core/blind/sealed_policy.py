"""What acts in a blind evaluation: the policy that the sealed order names, and no trace of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from resfit_core import tensorfile
from resfit_core.blind.seal import Opening, SealError
from resfit_core.control.records import EpisodeState, Mode
from resfit_core.control.residual_tick import Residual, ResidualTick


def policy_file(run_dir: Path, index: int) -> Path:
    """Return where an evaluation keeps the weights of a competitor."""
    return run_dir / "policies" / f"{index}.safetensors"


def load_policies(run_dir: Path, opening: Opening, make: Callable[[], Residual]) -> list[Residual]:
    """Return the competitors with their weights.

    Args:
        run_dir: Of the evaluation.
        opening: Of its seal.
        make: Makes a policy without weights.

    Raises:
        SealError: A file is missing or not the one that was sealed.
        WeightsError: Weights do not fit this policy.
    """
    policies = []
    for index, committed in enumerate(opening.policies):
        policies.append(make())
        if not committed.sha256:
            continue
        file = policy_file(run_dir, index)
        try:
            data = file.read_bytes()
        except OSError as error:
            raise SealError(
                f"{file}: cannot be read ({error.strerror}); start a new one"
            ) from error
        if tensorfile.sha256(data) != committed.sha256:
            raise SealError(f"{file}: not the weights that were sealed as '{committed.name}'")
        policies[-1].load(data)
    return policies


class SealedPolicy:
    """All competitors in one: each is asked at every tick, in the same order; one answer is taken.

    So neither the time an answer takes nor what is loaded when depends on who acts. `version` is
    always 0: no message says more.
    """

    def __init__(self, opening: Opening, policies: Sequence[Residual]) -> None:
        """Take the order and the competitors.

        Args:
            opening: Of the seal.
            policies: In the order of `opening.policies`; the base alone is a residual without
                weights.

        Raises:
            SealError: Their number is not the seal's.
        """
        if len(policies) != len(opening.policies):
            raise SealError(
                f"{len(policies)} policies for a seal of {len(opening.policies)}: give all"
            )
        self._opening, self._policies = opening, tuple(policies)
        self._commitment = opening.commitment.sha256
        self._acts = 0
        self.version = 0

    def load(self, data: bytes, sha256: str | None = None) -> int:
        """Refuse: the competitors were fixed when they were sealed.

        Raises:
            SealError: Always.
        """
        raise SealError("weights came in during a blind evaluation: its policies are fixed")

    def choose(self, state: EpisodeState) -> None:
        """Let the policy act that the seal names for this episode.

        Raises:
            SealError: The episode belongs to another seal, or to no round of this one.
        """
        if state.seal != self._commitment or state.mode != Mode.EVALUATE:
            raise SealError(
                f"episode {state.episode} is of seal '{state.seal[:12]}', this policy holds "
                f"{self._commitment[:12]}; start all nodes with the same evaluation"
            )
        self._acts = self._opening.acts(state.round, state.label)

    def begin_episode(self, seed: int, mode: int, use_residual: bool = True) -> None:
        """Begin, all of them."""
        for policy in self._policies:
            policy.begin_episode(seed, mode, use_residual)

    def executed(self, action_norm: np.ndarray) -> None:
        """Tell everybody what was executed."""
        for policy in self._policies:
            policy.executed(action_norm)

    def act(
        self, observation: np.ndarray, base_action: np.ndarray, chunk_phase: float, **shown: Any
    ) -> tuple[np.ndarray, bool]:
        """Ask everybody; return the answer of the one whose turn it is."""
        answers = [p.act(observation, base_action, chunk_phase, **shown) for p in self._policies]
        return answers[self._acts]


class SealedTick(ResidualTick):
    """A `ResidualTick` whose policy the sealed order chooses at the begin of each episode."""

    def __init__(self, policy: SealedPolicy, observes_last_action: bool = False) -> None:
        """Take the competitors."""

        def refused(reason: str) -> None:
            raise SealError(reason)

        super().__init__(policy, refused, observes_last_action)
        self._sealed = policy

    def _begin(self, state: EpisodeState) -> None:
        self._sealed.choose(state)
        super()._begin(state)
