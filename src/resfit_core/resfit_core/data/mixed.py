"""Two replay buffers sampled in fixed shares: demonstrations and what the robot did itself."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from resfit_core.data.episode import DEMO, EVALUATE, Episode
from resfit_core.data.replay import ReplayBuffer, ReplayError, Windows


class MixedReplay:
    """Half demos, half online (METHOD, recipe 5), with its own random generator. Not thread-safe.

    While one side is empty the other fills the whole batch. What a person did while they took over
    joins the demo half too, whatever became of the episode: it is what a demonstrator does.
    """

    def __init__(
        self,
        demos: ReplayBuffer,
        online: ReplayBuffer,
        *,
        n_step: int,
        gamma: float,
        demo_fraction: float,
        successes_to_demos: bool = False,
        per_episode: bool = False,
        seed: int = 0,
    ) -> None:
        """Join two buffers.

        Args:
            demos: the demo half.
            online: the online half.
            n_step: longest window, steps.
            gamma: discount per step.
            demo_fraction: share of each batch from the demo half, [0, 1].
            successes_to_demos: online successes join the demo half too (and stay online).
            per_episode: demos are drawn episode by episode instead of step by step.
            seed: of the sampling.

        Raises:
            ReplayError: their cameras differ.
        """
        if demos.frames.shapes != online.frames.shapes:
            raise ReplayError(
                f"demos have images {demos.frames.shapes}, online episodes "
                f"{online.frames.shapes}; give both buffers the same image_shapes"
            )
        self.demos, self.online = demos, online
        self.n_step, self.gamma, self.demo_fraction = n_step, gamma, demo_fraction
        self._successes_to_demos, self._per_episode = successes_to_demos, per_episode
        self.rng = np.random.default_rng([seed, 1])

    def add_demo(self, episode: Episode) -> bool:
        """Store a demonstration; False when that revision is already held."""
        return self.demos.add(episode)

    def add(self, episode: Episode) -> bool:
        """Store an online episode; False when that revision is already held.

        A verdict corrected from success to failure takes the episode out of the demo half again,
        but for a person's steps.
        """
        if episode.mode == EVALUATE:
            raise ReplayError(
                f"episode {episode.episode} is an evaluation; training must never see it"
            )
        if not self.online.add(episode):
            return False
        self._share(episode)
        return True

    def check(self, *episodes: Episode) -> None:
        """Refuse episodes that do not fit; nothing changes.

        Raises:
            ReplayError: Their sizes or their lengths do not fit.
        """
        for episode in episodes:
            self.online.check(episode)

    def restore(self, demos: Iterable[Episode], online: Iterable[Episode]) -> None:
        """Hold what both halves held when a checkpoint was written, in their order.

        Args:
            demos: Episodes of the demo half.
            online: Likewise of the online half.
        """
        self.demos.clear()
        self.online.clear()
        for episode in online:
            self.online.add(episode)
        for episode in demos:
            if episode.mode == DEMO:
                self.demos.add(episode)
            else:
                self._share(episode)

    def _share(self, episode: Episode) -> None:
        """Put what of an online episode belongs there into the demo half."""
        if self._successes_to_demos and episode.success:
            self.demos.add(episode)
        elif episode.intervention.any():
            self.demos.add(episode, interventions_only=True)
        else:
            self.demos.remove(episode.key)

    def sample(self, batch_size: int) -> Windows:
        """Return a batch; its first `demos` samples come from the demo half."""
        wanted = round(batch_size * self.demo_fraction)
        if not len(self.demos):
            wanted = 0
        elif not len(self.online):
            wanted = batch_size
        memory = self.demos.memory(batch_size)
        if wanted:
            index = self.demos.draw(self.rng, wanted, self._per_episode)
            self.demos.fill(memory.part(0, wanted), index, self.n_step, self.gamma)
        if wanted < batch_size:
            index = self.online.draw(self.rng, batch_size - wanted)
            self.online.fill(memory.part(wanted, batch_size), index, self.n_step, self.gamma)
        return self.demos.view(memory, wanted)

    def sha256(self) -> str:
        """Hash the content of both halves, 64 hex digits each, joined by a colon."""
        return f"{self.demos.sha256()}:{self.online.sha256()}"
