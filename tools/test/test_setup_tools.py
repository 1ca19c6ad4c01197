"""Set-up: what it says on machines that lack something, and when it builds what again."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import check_files
import interface_docs
import preflight
import setup
import underlay

pytestmark = pytest.mark.core

RETRY = (
    "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(...)': {}\n"
)
NO_TORCH = "ERROR: No matching distribution found for torch==2.13.0+cpu"


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (RETRY.format("/simple/numpy/"), "no package registry answered"),
        (RETRY.format("/whl/cpu/torch/") + RETRY.format("/simple/torch/"), "no package registry"),
        (RETRY.format("/whl/cpu/torch/") + NO_TORCH, "RESFIT_TORCH=any"),
        ("ERROR: No matching distribution found for numpy==2.4.6", "numpy==2.4.6 is not offered"),
        ("OSError: [Errno 28] No space left on device", "disk filled up"),
    ],
)
def test_pip_faults_become_one_line_with_the_fix(log, said):
    line = preflight.explain_pip(log, "python3.11")
    assert said in line
    assert "\n" not in line


def test_other_platform_is_told_where_to_go(monkeypatch):
    monkeypatch.setattr(preflight.platform, "machine", lambda: "aarch64")
    with pytest.raises(preflight.SetupError, match=r"install ROS 2 Jazzy .* docker compose"):
        preflight.check_platform()


@pytest.mark.parametrize("program", ["cmake", "g++", "make"])
def test_missing_program_is_named(monkeypatch, program):
    monkeypatch.setattr(preflight.shutil, "which", lambda name: None if name == program else name)
    with pytest.raises(preflight.SetupError) as error:
        preflight.check_programs()
    assert f"{program} not found: sudo apt install {program}" in str(error.value)


def _ros_prefix(path: Path) -> Path:
    packages = path / "share/ament_index/resource_index/packages"
    packages.mkdir(parents=True)
    (packages / "rclpy").touch()
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    (path / f"lib/{version}/site-packages/rclpy").mkdir(parents=True)
    return path


def test_sourced_ros_is_found(tmp_path, monkeypatch):
    prefix = _ros_prefix(tmp_path / "opt")
    monkeypatch.setenv("ROS_DISTRO", "kilted")
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{tmp_path / 'overlay'}:{prefix}")
    ros = preflight.find_ros(tmp_path / "clone")
    assert (ros.distro, ros.prefix) == ("kilted", prefix)


def test_older_ros_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("ROS_DISTRO", "humble")
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(_ros_prefix(tmp_path / "opt")))
    with pytest.raises(preflight.SetupError, match="jazzy or newer"):
        preflight.find_ros(tmp_path / "clone")


def test_own_and_neighbouring_underlays_are_no_ros(tmp_path, monkeypatch):
    own = _ros_prefix(tmp_path / "clone/.venv")
    neighbour = _ros_prefix(tmp_path / "other/.venv")
    (neighbour / "pyvenv.cfg").touch()
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{own}:{neighbour}")
    assert preflight.find_ros(tmp_path / "clone") is None


def test_builders_paths_are_replaced_as_often_as_wanted(tmp_path, monkeypatch):
    export = tmp_path / "share/std_msgs/cmake/export_std_msgs__rosidl_generator_pyExport.cmake"
    export.parent.mkdir(parents=True)
    line = '  INTERFACE_INCLUDE_DIRECTORIES "/opt/python/cp312-cp312/include/python3.12;/opt/x"\n'
    export.write_text(line + '  OTHER "${_IMPORT_PREFIX}/python"\n')
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").symlink_to(sys.executable)
    for _ in range(2):
        underlay.mend_include_paths(tmp_path)
        first, second = export.read_text().splitlines()
        assert "cp312" not in first
        assert "numpy" in first
        assert second == '  OTHER "${_IMPORT_PREFIX}/python"'


@pytest.mark.parametrize(
    ("change", "built_again"),
    [
        ("msg/A.msg", True),
        ("launch/new.launch.py", True),
        ("pkg/module.py", False),
        ("pkg/sub/__init__.py", True),
        ("test/test_x.py", False),
    ],
)
def test_what_calls_for_a_build(tmp_path, monkeypatch, change, built_again):
    monkeypatch.setattr(setup, "ROOT", tmp_path)
    package = tmp_path / "src/pkg"
    package.mkdir(parents=True)
    (package / "package.xml").write_text("<package/>")
    before = setup.package_hashes()
    changed = package / change
    changed.parent.mkdir(parents=True, exist_ok=True)
    changed.write_text("x")
    assert (setup.package_hashes() != before) is built_again


def test_yaml_key_given_twice_is_a_fault(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("rate: 1\nrate: 2\n")
    assert "'rate' stands twice" in check_files.fault_of(path)


def test_pages_tell_every_field(tmp_path, monkeypatch):
    monkeypatch.setattr(interface_docs, "ROOT", tmp_path)
    path = tmp_path / "Press.msg"
    path.write_text("# A press.\nuint8 STOP=1  # halt\n\nfloat32[] force  # shape (6,) [N]; a|b\n")
    page = interface_docs.page_of(path)
    assert "| `STOP` | `1` | halt |" in page
    assert "| `force` | `float32[]` | shape (6,) [N]; a\\|b |" in page
