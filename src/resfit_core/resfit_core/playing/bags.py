"""Which episodes a person means."""

from __future__ import annotations

from pathlib import Path

from resfit_core.data.bag_types import BagError
from resfit_core.data.bags import MANIFEST, list_episodes


def find_episodes(words: str) -> list[Path]:
    """Return the folders of the closed episodes that `words` name, in that order.

    Args:
        words: Paths with commas between them: each an episode's folder, its MCAP, a run, the
            `episodes` of one, or another folder of episodes.

    Raises:
        BagError: One of them holds no closed episode.
    """
    found: list[Path] = []
    for word in words.split(","):
        path = Path(word.strip())
        if path.suffix == ".mcap":
            path = path.parent
        episodes = [path] if (path / MANIFEST).is_file() else list_episodes(path)
        if not episodes:
            raise BagError(
                f"'{path}' holds no recorded episode: give an episode_… folder, a run, or a "
                "folder of episodes"
            )
        found += episodes
    return found
