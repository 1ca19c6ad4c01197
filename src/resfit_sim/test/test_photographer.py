"""The real-time twin's images: of the instant that was asked for, and never twice at once."""

from __future__ import annotations

import queue
import threading

import mujoco
import numpy as np

from resfit_sim.photographer import Photographer
from resfit_sim.twin import Twin

_WAIT_S = 60.0


def test_it_draws_the_instant_of_the_shot_while_the_twin_moves_on() -> None:
    """What the twin does meanwhile is not in the image; a shot in between is not taken."""
    twin = Twin()
    expected = twin.render("left", 64, 36)
    taken: queue.Queue = queue.Queue()
    begun, go_on = threading.Event(), threading.Event()

    def begin() -> None:
        begun.set()
        go_on.wait(_WAIT_S)

    camera = Photographer(
        twin.model, {"left": (64, 36)}, lambda *shot: taken.put(shot), taken.put, begin
    )
    assert camera.shoot(7, twin.data)
    assert begun.wait(_WAIT_S)
    twin.reset(5)
    assert not camera.shoot(8, twin.data)
    assert camera.skipped == 1
    go_on.set()
    stamp, name, image = taken.get(timeout=_WAIT_S)
    camera.close()
    twin.close()
    assert (stamp, name) == (7, "left")
    assert np.mean(np.abs(image.astype(int) - expected)) < 0.5


def test_what_cannot_be_drawn_is_said() -> None:
    """An unknown camera ends the thread with its reason."""
    model = mujoco.MjModel.from_xml_string("<mujoco/>")
    failed: queue.Queue = queue.Queue()
    camera = Photographer(model, {"left": (8, 8)}, lambda *_: None, failed.put)
    camera.shoot(0, mujoco.MjData(model))
    error = failed.get(timeout=_WAIT_S)
    camera.close()
    assert "camera 'left' is unknown" in str(error)
