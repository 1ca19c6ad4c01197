"""The whole graph in real time with `camera:=file`: pictures of a file in the twin's place."""

import subprocess
import sys

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed: run 'make setup'")

from resfit_core.data.bag_reader import read_episode
from resfit_core.data.bags import list_episodes

pytestmark = pytest.mark.launch

SHADES = range(10, 250, 20)  # one per picture; no two in a row are alike


def write_pictures(folder):
    """Both eyes side by side, each of one colour that says which eye and which picture it is."""
    folder.mkdir()
    for shade in SHADES:
        eyes = [
            np.full((360, 640, 3), bgr, np.uint8) for bgr in ((50, 90, shade), (shade, 90, 50))
        ]
        cv2.imwrite(str(folder / f"{shade:03}.png"), np.hstack(eyes))


@pytest.fixture(scope="module")
def run(tmp_path_factory, domain_id):
    """Record one demonstration of the expert, who sees the twin's objects, not the pictures."""
    folder = tmp_path_factory.mktemp("camera_file")
    write_pictures(folder / "pictures")
    command = [
        sys.executable, "-m", "resfit_bringup.main", "run", "record", "observation:=pixels",
        "clock:=realtime", "camera:=file", f"camera_file:={folder / 'pictures'}", "episodes:=1",
        f"run_dir:={folder / 'run'}", "keyboard:=false",
    ]  # fmt: skip
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, text=True, timeout=240, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return folder / "run"


def test_every_step_saw_pictures_of_the_file(run):
    (path, *_) = list_episodes(run)
    episode = read_episode(path)
    assert episode.steps > 20
    for images, colour in zip(
        episode.images, (lambda s: (s, 90, 50), lambda s: (50, 90, s)), strict=True
    ):
        assert images.shape == (episode.steps + 1, 84, 84, 3)
        flat = images.reshape(len(images), -1, 3)
        assert (flat == flat[:, :1]).all()  # one colour each, to the bit
        seen = {tuple(rgb) for rgb in flat[:, 0].tolist()}
        assert seen <= {colour(shade) for shade in SHADES}
        assert len(seen) > 3


def test_the_twin_draws_nothing_and_no_node_complains(run):
    for name in ("twin", "zed_camera", "base_policy", "vega_driver"):
        log = (run / "logs" / f"{name}.log").read_text()
        for trouble in ("Traceback", "[ERROR]", "[FATAL]", "--- start 2"):
            assert trouble not in log, f"{name}: {log}"
    assert "pictures of " in (run / "logs/zed_camera.log").read_text()
