"""Which DDS profile a node takes."""

import os
from pathlib import Path

from resfit_ros.dds import use_profile

NAME = "FASTRTPS_DEFAULT_PROFILES_FILE"
SHIPPED = Path(__file__).parents[3] / "config/dds/fastdds.xml"


def test_the_profile_beside_the_one_in_use_wins(monkeypatch):
    monkeypatch.setenv(NAME, str(SHIPPED))
    for _ in range(2):  # a child of such a node does it again
        use_profile("safe")
        assert os.environ[NAME] == str(SHIPPED.with_name("fastdds.safe.xml"))
    assert "SHM" not in Path(os.environ[NAME]).read_text()


def test_a_profile_of_the_site_stays(monkeypatch, tmp_path):
    monkeypatch.setenv(NAME, str(tmp_path / "mine.xml"))
    use_profile("safe")
    assert os.environ[NAME] == str(tmp_path / "mine.xml")
