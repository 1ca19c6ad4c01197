"""What the frozen base sees in its images, as numbers that a residual can learn on.

A base with keypoints tells where the hands' places are (`base/places.py`). Joined to the
observation like positions of objects, they let actor and critic see the hand from there
(`nets/views.py`), at the cost of learning from a flat state: an image is looked at once, when it
comes, not in every update.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from resfit_core.base.protocol import BaseError, BasePolicy, Locate
from resfit_core.contract import Contract
from resfit_core.control.observe import ObservationBuilder
from resfit_core.data.episode import Episode

_ADDED = ("object_position", "hand_to_object")


class Sight:
    """Extends observations by the places that the base sees. Keeps no state between calls.

    Attributes:
        contract: layout of what comes out; only that differs from the contract of what goes in.
    """

    def __init__(self, contract: Contract, locate: Locate) -> None:
        """Prepare the longer layout.

        Args:
            contract: of the observations that come in; with images, and without object positions.
            locate: the base's eye.

        Raises:
            BaseError: the contract has no images, or knows where the objects are.
        """
        known = [name for name in _ADDED if name in contract.fields]
        if known or not contract.images:
            raise BaseError(
                f"image_features is 'base', but task '{contract.task}' ({contract.variant}) "
                f"observes {known or 'no images'}; take image_features: encoder"
            )
        self._names, self._locate = contract.images, locate
        places = tuple(
            f"{hand.name} {what}" for hand in contract.hands for what in ("takes", "lets go")
        )
        self.contract = dataclasses.replace(
            contract, fields=(*contract.fields, *_ADDED), objects=places
        )
        self._layout = contract.layout
        self._builder = ObservationBuilder(self.contract)

    def extend(self, observation: np.ndarray, images: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the observations with the places and the hands' ways to them.

        Args:
            observation: Shape (rows, obs_dim).
            images: camera to uint8 (rows, size, size, 3).

        Returns:
            float32 of shape (rows, contract.obs_dim).

        Raises:
            BaseError: a camera is missing.
        """
        missing = [name for name in self._names if name not in images]
        if missing:
            raise BaseError(f"image of camera '{missing[0]}' is missing; the base sees by it")
        places = self._locate(np.stack([images[name] for name in self._names], axis=1))
        fields = self._layout.items()
        rows = [
            self._builder.build(**{name: row[at] for name, at in fields}, object_poses=found)
            for row, found in zip(observation, places, strict=True)
        ]
        return np.stack(rows)

    def of_episode(self, episode: Episode) -> Episode:
        """Return the episode with longer observations and without its images."""
        seen = self.extend(episode.observation, episode.images)
        return episode.replace(observation=seen, images={})


def sight_of(base: BasePolicy, contract: Contract, image_features: str) -> Sight | None:
    """Return the base's sight where the setting `image_features` asks for it, else None.

    Raises:
        BaseError: the base has none.
    """
    if image_features != "base":
        return None
    locate = getattr(base, "locate", None)
    if locate is None:
        raise BaseError(
            "image_features is 'base', but this base tells no places; train one with "
            "'make base ARGS=\"--observation pixels …\"' or take image_features: encoder"
        )
    return Sight(contract, locate)
