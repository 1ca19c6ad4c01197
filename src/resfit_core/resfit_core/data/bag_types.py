"""Message types of the recorded topics, for reading and writing bags without ROS.

The definitions come from the `.msg` files of `resfit_interfaces`: from the install of a sourced
workspace, else from the source tree beside this package.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

TOPICS = {
    "step": "resfit_interfaces/msg/Step",
    "executed_command": "resfit_interfaces/msg/ExecutedCommand",
    "episode_state": "resfit_interfaces/msg/EpisodeState",
}
"""Topics of an episode's bag and their types."""


def name_in_bag(topic: str) -> str:
    """Return a topic's name as a bag holds it.

    `ros2 bag play --topics` makes names absolute before it looks for them, as ROS does, and
    finds no others.
    """
    return topic if topic.startswith("/") else f"/{topic}"


def topic_of(name: str) -> str:
    """Return the topic, relative, of a name in a bag; bags of before hold it so themselves."""
    return name.removeprefix("/")


class BagError(ValueError):
    """A bag that cannot be written, or read as one of ours; the text names file and fix."""


@functools.cache
def type_store(folder: Path | None = None) -> Typestore:
    """Return the standard types of ROS 2 Jazzy together with ours.

    Args:
        folder: Where the `.msg` files lie; None: found by `definitions_folder`.

    Raises:
        BagError: The `.msg` files are not there.
    """
    folder = folder or definitions_folder()
    store = get_typestore(Stores.ROS2_JAZZY)
    types: dict = {}
    for file in sorted(folder.glob("*.msg")):
        types |= get_types_from_msg(file.read_text(), f"resfit_interfaces/msg/{file.stem}")
    store.register(types)
    missing = [name for name in TOPICS.values() if name not in store.types]
    if missing:
        raise BagError(f"{folder}: no definition of {missing[0]}; is this resfit_interfaces?")
    return store


@functools.lru_cache(maxsize=8)
def store_from_definitions(definitions: tuple[tuple[str, str], ...]) -> Typestore:
    """Return a store with the types a bag carries itself, so that old bags stay readable.

    Args:
        definitions: Pairs of type name and the definition text embedded in the bag.
    """
    store = get_typestore(Stores.ROS2_JAZZY)
    types: dict = {}
    for name, text in definitions:
        types |= get_types_from_msg(text, name)
    store.register({k: v for k, v in types.items() if k not in store.types})
    return store


def definitions_folder() -> Path:
    """Return the folder of our `.msg` files.

    Raises:
        BagError: There is none.
    """
    share = Path("share", "resfit_interfaces", "msg")
    looked = [
        Path(prefix, share)
        for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
        if prefix
    ]
    looked += [p / "resfit_interfaces" / "msg" for p in Path(__file__).resolve().parents[1:5]]
    looked += [p / share for p in Path(__file__).resolve().parents]
    for folder in looked:
        if (folder / "Step.msg").is_file():
            return folder
    raise BagError(
        "the message definitions of resfit_interfaces were not found: source the workspace "
        "(AMENT_PREFIX_PATH) or run from the source tree"
    )
