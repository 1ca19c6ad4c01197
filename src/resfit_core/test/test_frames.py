"""Frames of the replay: stored once, gathered whole, and no batch changes under its reader."""

import numpy as np
import pytest
from learning_cases import ACT, OBS, episode

from resfit_core.data import gather
from resfit_core.data.episode import DEMO
from resfit_core.data.frames import FrameRing
from resfit_core.data.mixed import MixedReplay
from resfit_core.data.replay import ReplayBuffer, ReplayError
from resfit_core.nets.native import available

SHAPES = {"top": (9, 7, 3), "left": (5, 5, 3)}
NATIVE = [
    False,
    pytest.param(True, marks=pytest.mark.skipif(not available(), reason="no C++ compiler")),
]


def frames(seed, rows, shapes=SHAPES):
    rng = np.random.default_rng(seed)
    return {c: rng.integers(0, 256, (rows, *shape), dtype=np.uint8) for c, shape in shapes.items()}


def mixed(native=False):
    made = MixedReplay(
        *(ReplayBuffer(OBS, ACT, 40, SHAPES, native=native) for _ in range(2)),
        n_step=3,
        gamma=0.9,
        demo_fraction=0.5,
    )
    made.add_demo(episode(1, 12, True, mode=DEMO, images=frames(1, 13)))
    for number in range(2, 7):  # the ring wraps
        made.add(episode(number, 9, images=frames(number, 10)))
    return made


@pytest.mark.parametrize("native", NATIVE)
@pytest.mark.parametrize("size", [1, 8, 21])
def test_samples_are_the_frames_that_were_added(native, size):
    """The first number of an observation is 100 * episode + step (`learning_cases`)."""
    replay = mixed(native)
    for _ in range(5):
        batch = replay.sample(size)
        for observation, images in (
            (batch.observation, batch.images),
            (batch.next_observation, batch.next_images),
        ):
            for row, (number, step) in enumerate(
                np.stack(np.divmod(observation[:, 0].astype(int), 100), 1)
            ):
                for camera, image in images.items():
                    expected = frames(number, 13 if number == 1 else 10)[camera][step]
                    np.testing.assert_array_equal(image[row], expected)


def test_the_kernel_changes_no_sample():
    if not available():
        pytest.skip("no C++ compiler")
    ways = [mixed(native) for native in (False, True)]
    assert ways[0].sha256() == ways[1].sha256()
    for _ in range(3):
        plain, fast = (replay.sample(16) for replay in ways)
        np.testing.assert_array_equal(plain.observation, fast.observation)
        for camera in SHAPES:
            np.testing.assert_array_equal(plain.images[camera], fast.images[camera])
            np.testing.assert_array_equal(plain.next_images[camera], fast.next_images[camera])


@pytest.mark.parametrize("native", NATIVE)
def test_a_batch_stays_as_it_was(native):
    """Memory that two batches share would give the reader of the first the second's frames."""
    replay = mixed(native)
    first = replay.sample(16)
    before = {camera: image.copy() for camera, image in first.images.items()}
    others = [replay.sample(16) for _ in range(3)]
    replay.add(episode(9, 9, images=frames(9, 10)))
    for camera, image in first.images.items():
        np.testing.assert_array_equal(image, before[camera])
        assert not np.shares_memory(image, first.next_images[camera])
        for other in others:
            assert not np.shares_memory(image, other.images[camera])
            assert not np.shares_memory(image, other.next_images[camera])


def test_a_transition_takes_the_room_of_its_frames_once():
    shapes = {"left": (84, 84, 3), "right": (84, 84, 3)}
    buffer = ReplayBuffer(53, 29, 50, shapes)
    held = [v for v in (*vars(buffer).values(), *vars(buffer.frames).values())]
    arrays = [v for v in held if isinstance(v, np.ndarray) and len(v) == 50]
    assert buffer.nbytes == sum(array.nbytes for array in arrays)
    assert buffer.nbytes / 50 <= 1.05 * 2 * 84 * 84 * 3


def test_batch_without_a_half_has_all_frames():
    replay = mixed()
    replay.online.clear()
    batch = replay.sample(8)
    assert batch.demos == 8
    assert {camera: image.shape for camera, image in batch.images.items()} == {
        camera: (8, *shape) for camera, shape in SHAPES.items()
    }


@pytest.mark.parametrize("native", NATIVE)
@pytest.mark.parametrize("wrong", [-1, 10])
def test_a_row_that_is_not_there_is_refused(native, wrong):
    ring = FrameRing(10, SHAPES, native=native)
    with pytest.raises(IndexError, match="there are 10"):
        ring.read(np.array([0, wrong]), ring.memory(2))


def test_refusals():
    with pytest.raises(ReplayError, match="same image_shapes"):
        MixedReplay(
            ReplayBuffer(OBS, ACT, 9, SHAPES),
            ReplayBuffer(OBS, ACT, 9),
            n_step=1,
            gamma=0.9,
            demo_fraction=0.5,
        )
    if not available():
        pytest.skip("no C++ compiler")
    rows = gather.reserved(4, 128)
    for out in (
        np.zeros(2 * 128 + 1, np.uint8)[1:].reshape(2, 128),  # between two lines
        gather.aligned(2, 256)[:, :128],  # with gaps
        gather.aligned(2, 64),  # another size
    ):
        with pytest.raises(ValueError, match="use `aligned`"):
            gather.native()(rows, np.array([0, 1]), out)
