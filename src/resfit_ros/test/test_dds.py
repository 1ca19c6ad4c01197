"""Which DDS profile a node takes."""

import os
from pathlib import Path

import pytest

from resfit_ros.dds import stay_here, use_profile

NAME, OTHER = "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"
RANGE = "ROS_AUTOMATIC_DISCOVERY_RANGE"
SHIPPED = Path(__file__).parents[3] / "config/dds/fastdds.xml"


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    """Both names and the range are put back, whichever a test gives: children inherit them.

    Bug: the second name stayed on the localhost profile, and later in the same session two sides
    of a link never met.
    """
    for name in (NAME, OTHER, RANGE):
        monkeypatch.setenv(name, "")


@pytest.mark.parametrize("reach", ["SUBNET", ""])
def test_the_profile_beside_the_one_in_use_wins(monkeypatch, reach):
    monkeypatch.setenv(NAME, str(SHIPPED))
    monkeypatch.setenv(RANGE, reach)
    for _ in range(2):  # a child of such a node does it again
        use_profile("safe")
        assert os.environ[NAME] == str(SHIPPED.with_name("fastdds.safe.xml"))
        assert os.environ[RANGE] == reach
    assert "SHM" not in Path(os.environ[NAME]).read_text()


def test_on_one_machine_the_profile_keeps_discovery_there(monkeypatch):
    """Bug: with LOCALHOST rmw_fastrtps added shared memory to the profile that had none."""
    monkeypatch.setenv(NAME, str(SHIPPED))
    monkeypatch.setenv(OTHER, str(SHIPPED))
    monkeypatch.setenv(RANGE, "LOCALHOST")
    for _ in range(2):
        use_profile("safe")
        stay_here()  # knows that this one does
        mine = str(SHIPPED.with_name("fastdds.safe_localhost.xml"))
        assert (os.environ[NAME], os.environ[OTHER]) == (mine, mine)
        assert os.environ[RANGE] == "SUBNET"
    text = Path(os.environ[NAME]).read_text()
    assert "SHM" not in text and "127.0.0.1" in text and "metatrafficUnicastLocatorList" in text


def test_without_such_a_profile_discovery_stays_on_the_machine(monkeypatch, tmp_path):
    monkeypatch.setenv(NAME, str(tmp_path / "mine.xml"))
    monkeypatch.setenv(RANGE, "SUBNET")
    stay_here()
    assert os.environ[RANGE] == "LOCALHOST"


def test_a_profile_of_the_site_stays(monkeypatch, tmp_path):
    monkeypatch.setenv(RANGE, "LOCALHOST")
    monkeypatch.setenv(NAME, str(tmp_path / "mine.xml"))
    use_profile("safe")
    assert os.environ[NAME] == str(tmp_path / "mine.xml")
