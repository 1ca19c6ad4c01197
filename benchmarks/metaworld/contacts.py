"""Who touches whom, read from MuJoCo's contact list without an object per contact."""

from __future__ import annotations

from typing import Any

import numpy as np


def touching(env: Any, thing: int) -> bool:
    """Return what Meta-World's `touching_object` returns: do both fingers press on the thing?

    Meta-World makes a Python object of every contact of the scene, twice a step, for a part of its
    reward that a sparse task never reads: a fifth of the time of an episode. Here only the
    contacts of the two pads are looked at, in the same order.

    Args:
        env: Meta-World's environment.
        thing: the geometry's number.
    """
    contact, force = env.data.contact, env.data.efc_force
    of_thing = (contact.geom1 == thing) | (contact.geom2 == thing)
    if not of_thing.any():
        return False
    for pad in ("leftpad_geom", "rightpad_geom"):
        number = env.data.geom(pad).id
        both = of_thing & ((contact.geom1 == number) | (contact.geom2 == number))
        if not sum(force[contact.efc_address[i]] for i in np.flatnonzero(both)) > 0:
            return False
    return True
