"""A port file of size 0 hung every node on the machine; locks and sound files stay."""

import os
import time

from resfit_bringup.dds_leftovers import sweep


def test_only_old_port_files_without_a_size_go(tmp_path):
    """A node killed while it started left one: all later graphs stood still, without a word."""
    old = time.time() - 60
    for name, content, age in (
        ("fastrtps_port7008", b"", old),
        ("fastrtps_port7009", b"segment", old),
        ("fastrtps_port7010", b"", time.time()),
        ("fastrtps_port7008_el", b"", old),
        ("sem.fastrtps_port7008_mutex", b"", old),
        ("other", b"", old),
    ):
        (tmp_path / name).write_bytes(content)
        os.utime(tmp_path / name, (age, age))
    assert sweep(tmp_path) == ["fastrtps_port7008"]
    assert len(list(tmp_path.iterdir())) == 5
    assert sweep(tmp_path) == [] == sweep(tmp_path / "nowhere")
