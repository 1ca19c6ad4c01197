"""What time it is for the episode manager, and how it asks for a scene until it is there."""

from __future__ import annotations

from resfit_core.control.episode_parts import Clocks, EpisodeError, EpisodeSettings, Outlet
from resfit_core.control.press import EXACT, OperatorEvent

_RETRY_NS = 1_000_000_000


class EpisodeTime:
    """Stamps of the graph and of presses, and how long something has been waited for.

    In lock-step time is what the twin says: now is the newest stamp seen. Waiting is counted on
    the steady clock, which no simulation stops.
    """

    def __init__(self, clocks: Clocks, settings: EpisodeSettings) -> None:
        """Start at zero, with nothing waited for."""
        self._clocks, self._settings = clocks, settings
        self._newest_ns = self._since_ns = self._waited_ns = 0

    def see(self, stamp_ns: int) -> None:
        """Take a stamp of the graph [ns]."""
        self._newest_ns = max(self._newest_ns, stamp_ns)

    def now_ns(self) -> int:
        """Return the graph's time [ns]."""
        return self._newest_ns if self._settings.lockstep else self._clocks.graph_ns()

    def pressed_ns(self, event: OperatorEvent) -> int:
        """Return the stamp that a press credits [ns]: a person's minus their reaction time."""
        if event.source in EXACT:
            return event.stamp_ns
        now = self._newest_ns + 1 if self._settings.lockstep else self._clocks.graph_ns()
        return (event.stamp_ns or now) - self._settings.reaction_ns

    def restart(self) -> None:
        """Wait for something from now on."""
        self._since_ns = self._clocks.steady_ns()

    def passed_ns(self) -> int:
        """Return how long it has been waited for [ns]."""
        return self._clocks.steady_ns() - self._since_ns

    def note_wait(self) -> int:
        """Count what was waited as time between episodes, and wait on; return the count [ns]."""
        self._waited_ns += self.passed_ns()
        self.restart()
        return self._waited_ns

    def forget_wait(self) -> None:
        """Count anew: an episode begins."""
        self._waited_ns = 0


class SceneTries:
    """One scene, asked for again where no answer comes or it fails, until it failed too often."""

    def __init__(self, settings: EpisodeSettings, outlet: Outlet, time: EpisodeTime) -> None:
        """Ask for nothing yet."""
        self._settings, self._outlet, self._time = settings, outlet, time
        self._wanted, self._failed = (0, 0), 0

    def ask(self, episode: int, seed: int) -> None:
        """Ask for the scene of an episode."""
        self._wanted, self._failed = (episode, seed), 0
        self._time.restart()
        self._outlet.reset_scene(episode, seed)

    def look(self) -> None:
        """Ask again where the answer is due."""
        if self._time.passed_ns() > (
            _RETRY_NS if self._failed else self._settings.reset_timeout_ns
        ):
            self._time.restart()
            self._outlet.reset_scene(*self._wanted)

    def failed(self, message: str) -> None:
        """Take a failure; `look` asks again a little later.

        Raises:
            EpisodeError: It failed too often.
        """
        self._time.restart()
        self._failed += 1
        episode, seed = self._wanted
        if self._failed >= self._settings.failures_allowed:
            raise EpisodeError(
                f"the scene of episode {episode} (seed {seed}) could not be reset, "
                f"{self._failed} times: {message}; mend that, then go on with run_dir:="
            )
        self._outlet.warn(f"reset for episode {episode} failed, will try again: {message}")
