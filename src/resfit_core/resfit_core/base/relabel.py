"""What the frozen base would have proposed along a recorded episode.

Demos are recorded before a base exists, and a new base makes old proposals stale. The base is
reset at the start and runs open loop, chunk by chunk, along the recorded observations.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from resfit_core import tensorfile
from resfit_core.base.protocol import BasePolicy, open_loop
from resfit_core.contract import Contract
from resfit_core.data.bag_reader import RecordedEpisode, newest_verdict, read_episode
from resfit_core.data.bag_types import BagError
from resfit_core.data.bags import list_episodes, read_manifest
from resfit_core.data.episode import Episode, EpisodeError


def relabel(recorded: RecordedEpisode, base: BasePolicy, contract: Contract) -> Episode:
    """Return the episode in the base's action space, with its proposals and chunk phase.

    The executed actions come from their joint targets; beyond the base's range they are clipped.

    Args:
        recorded: Under the same contract; of any base.
        base: Frozen; it is reset here, before and after.
        contract: Names the cameras.

    Raises:
        ContractError: Episode or base belong to another contract.
    """
    contract.require(base.contract_sha256, "the base policy")
    images = [
        {
            name: camera[index]
            for name, camera in zip(contract.images, recorded.images, strict=False)
        }
        for index in range(len(recorded.observation))
    ]
    actions, phases = open_loop(base, recorded.observation, images, recorded.seed)
    return recorded.to_episode(
        contract,
        base_action=actions,
        chunk_phase=phases,
        action=base.action_space.to_norm(recorded.action_rad),
        proposed=None,  # told in the space of who was base then
        base_sha256=base.base_sha256,
    )


def relabel_folder(
    folder: Path,
    base: BasePolicy,
    contract: Contract,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Episode]:
    """Relabel every closed episode below `folder`; what was done before is read from `cache`.

    Args:
        folder: A set of demos, a run, or its `episodes`.
        base: Frozen.
        contract: Of both.
        cache: Where `<base_sha256>/<bag_sha256>-r<revision>.safetensors` are kept; None: nowhere.
        progress: Called with (done, all).

    Raises:
        BagError: No episode is there, or one cannot be read; names file, episode and fix.
    """
    paths = list_episodes(folder)
    if not paths:
        raise BagError(f"{folder}: no episode_* folder in it; record some with 'make demos'")
    episodes = []
    for number, path in enumerate(paths, 1):
        kept = _kept_at(path, base, cache)
        episode = _read_kept(kept)
        if episode is None:
            episode = relabel(read_episode(path), base, contract)
            if kept is not None:
                tensorfile.write_atomic(kept, episode.to_bytes())
        contract.require(episode.contract_sha256, f"episode {path}")
        episodes.append(episode)
        if progress is not None:
            progress(number, len(paths))
    return episodes


def _kept_at(path: Path, base: BasePolicy, cache: Path | None) -> Path | None:
    if cache is None:
        return None
    manifest = read_manifest(path)
    revision = newest_verdict(path, manifest).revision
    return cache / base.base_sha256 / f"{manifest.bag_sha256}-r{revision}.safetensors"


def _read_kept(kept: Path | None) -> Episode | None:
    """Return what the cache holds; None: nothing, or a damaged file, which is made anew."""
    if kept is None or not kept.exists():
        return None
    try:
        return Episode.from_bytes(kept.read_bytes())
    except EpisodeError:
        return None
