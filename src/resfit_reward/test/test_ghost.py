"""Matched scenes: what is laid over, what is stored, how alike two pictures are."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed ('make setup' installs it)")
pytest.importorskip("PIL", reason="Pillow is not installed ('make setup' installs it)")

from PIL import Image

from resfit_core.blind.seal import MATCHES
from resfit_core.control.records import EpisodeState, Mode, Phase
from resfit_core.similarity import grey, ssim
from resfit_reward.panel.ghost import Ghost, Shown

CAMERAS = ("left", "right")


def scene(x, noise=0):
    """A picture with a light box whose left edge is at x; and noise of so many levels."""
    image = np.full((180, 320, 3), 40, np.uint8)
    image[60:120, x : x + 60] = 200
    if noise:
        chance = np.random.default_rng(noise)
        image += chance.integers(0, noise, image.shape, np.uint8)
    return image


def state(phase, label, number=1, episode=1):
    return EpisodeState(phase, episode, Mode.EVALUATE, seal="5" * 64, round=number, label=label)


def play(ghost, label, image, episode, number=1, at=0.0):
    """Reset, look, accept."""
    for phase in (Phase.RESETTING, Phase.READY):
        ghost.state(state(phase, label, number, episode), at)
        for camera in CAMERAS:
            ghost.image(camera, image, at)
    shown = ghost.shown
    ghost.state(state(Phase.RUNNING, label, number, episode), at + 0.1)
    return shown


def matches(folder):
    file = folder / MATCHES
    return [json.loads(x) for x in file.read_text().splitlines()] if file.exists() else []


def test_the_first_scene_of_a_round_is_laid_over_the_next_ones(tmp_path):
    ghost = Ghost(tmp_path, CAMERAS)
    assert play(ghost, "A", scene(100), 1) == ()
    assert ghost.shown == () and ghost.wanted == frozenset()
    (left, right) = play(ghost, "B", scene(100), 2)
    assert (left, right) == (Shown("left", 1, 1.0), Shown("right", 1, 1.0))
    assert ghost.shown == ()  # accepted
    first = tmp_path / "scenes" / "round_0001" / "left_first.png"
    np.testing.assert_array_equal(np.asarray(Image.open(first)), scene(100))
    assert ghost.picture("left") == first.read_bytes()
    assert [(m["label"], m["camera"], m["similarity"]) for m in matches(tmp_path)] == [
        ("B", "left", 1.0), ("B", "right", 1.0)
    ]  # fmt: skip
    assert (tmp_path / matches(tmp_path)[0]["picture"]).is_file()


def test_a_moved_scene_is_seen_and_said(tmp_path):
    ghost = Ghost(tmp_path, CAMERAS)
    play(ghost, "A", scene(100), 1)
    near = play(ghost, "B", scene(104), 2)[0].similarity
    far = play(ghost, "C", scene(200), 3)[0].similarity
    assert 1 > near > far
    assert [m["similarity"] for m in matches(tmp_path)][::2] == pytest.approx(
        [near, far], abs=1e-3
    )


def test_the_next_round_has_its_own_first_scene_and_nothing_is_laid_over_it(tmp_path):
    ghost = Ghost(tmp_path, CAMERAS)
    play(ghost, "A", scene(100), 1)
    play(ghost, "B", scene(100), 2)
    assert play(ghost, "A", scene(200), 3, number=2) == ()
    assert play(ghost, "B", scene(200), 4, number=2)[0].similarity == 1.0


def test_a_panel_that_was_started_again_finds_the_round_s_first_scene(tmp_path):
    play(Ghost(tmp_path, CAMERAS), "A", scene(100), 1)
    assert play(Ghost(tmp_path, CAMERAS), "B", scene(100), 2)[0].similarity == 1.0


def test_an_aborted_first_episode_is_matched_to_itself_when_it_is_run_again(tmp_path):
    ghost = Ghost(tmp_path, CAMERAS)
    play(ghost, "A", scene(100), 1)
    ghost.state(state(Phase.ENDED, "A", 1, 1), 1.0)
    assert play(ghost, "A", scene(100), 2)[0].similarity == 1.0
    assert [m["episode"] for m in matches(tmp_path)] == [2, 2]


def test_without_a_fresh_picture_the_first_one_of_the_running_episode_is_stored(tmp_path):
    """On the twin in lock-step no picture comes before the episode runs."""
    ghost = Ghost(tmp_path, CAMERAS)
    for phase in (Phase.RESETTING, Phase.READY):
        ghost.state(state(phase, "A"), 0.0)
    ghost.image("right", scene(10), 0.0)
    ghost.state(state(Phase.RUNNING, "A"), 5.0)  # that picture is old by now
    assert ghost.wanted == {"left", "right"}
    ghost.image("left", scene(100), 5.1)
    ghost.image("left", scene(110), 5.2)
    assert ghost.wanted == {"right"}
    stored = np.asarray(Image.open(tmp_path / "scenes" / "round_0001" / "left_first.png"))
    np.testing.assert_array_equal(stored, scene(100))
    ghost.state(state(Phase.ENDED, "A"), 6.0)
    assert ghost.wanted == frozenset()


def test_no_other_run_stores_or_shows_anything(tmp_path):
    ghost = Ghost(tmp_path, CAMERAS)
    for phase in (Phase.READY, Phase.RUNNING):
        ghost.state(EpisodeState(phase, 1, Mode.TRAIN), 0.0)
        assert (ghost.wanted, ghost.shown) == (frozenset(), ())
    assert list(tmp_path.iterdir()) == []


def test_structural_similarity_by_hand():
    """Where all windows are flat, only the means count: (2ab + C1) / (a² + b² + C1)."""
    a, b = np.full((16, 16), 0.5), np.full((16, 16), 0.25)
    wanted = (2 * 0.5 * 0.25 + 1e-4) / (0.25 + 0.0625 + 1e-4)
    assert ssim(a, b) == pytest.approx(wanted)
    assert ssim(grey(scene(50)), grey(scene(50))) == pytest.approx(1.0)
    assert 0.5 < ssim(grey(scene(50)), grey(scene(50, noise=20))) < 1.0
    assert grey(scene(50)).shape == (90, 160)
    with pytest.raises(ValueError, match="7 x 7"):
        ssim(a[:5], b[:5])


def test_the_node_stores_a_round_s_scenes_though_nobody_looks(tmp_path):
    """Over DDS: pictures are subscribed to while a scene is prepared, page or no page."""
    pytest.importorskip("rclpy", reason="ROS 2 (rclpy) is not installed: run 'make setup'")
    from sensor_msgs.msg import Image as ImageMsg

    from resfit_interfaces import msg as ours
    from resfit_reward.panel_node import PanelNode
    from resfit_ros import conversions, qos
    from resfit_ros.testing import graph

    class Pageless(PanelNode):
        def start(self):
            """NiceGUI's application is one per process; another test has it."""

    config = Path(__file__).resolve().parents[3] / "config"
    given = {
        "robot_file": str(config / "robot" / "vega_1.yaml"),
        "task_file": str(config / "task" / "woolly_ball_pnp.yaml"),
        "run_dir": str(tmp_path),
    }
    with graph() as ros:
        panel, probe = ros.add(Pageless, given), ros.probe()
        ghosts = panel._pictures.ghost
        states = probe.create_publisher(ours.EpisodeState, "episode_state", qos.LATCHED)
        cameras = {
            name: probe.create_publisher(ImageMsg, topic, qos.sensor("realtime", 1))
            for name, topic in panel._pictures._topics.items()
        }

        def shows(label, episode):
            for phase in (Phase.READY, Phase.RUNNING):
                said = state(phase, label, episode=episode)
                states.publish(conversions.episode_state_to_msg(said))
                assert ros.spin_until(lambda said=said: ghosts._state == said)
                for _ in range(100):
                    for out in cameras.values():
                        out.publish(conversions.image_to_msg(0, scene(100)))
                    ready = set(ghosts._newest) if phase == Phase.READY else set(cameras)
                    if ros.spin_until(
                        lambda ready=ready: ready == set(cameras) and not ghosts._to_store,
                        0.1,
                    ):
                        break

        shows("A", 1)
        shows("B", 2)
        assert ros.spin_until(lambda: not panel._pictures.watching)
    assert {(m["camera"], m["similarity"]) for m in matches(tmp_path)} == {
        (name, 1.0) for name in cameras
    }
