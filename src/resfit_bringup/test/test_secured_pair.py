"""Keys of `resfit security-keys` in real conversations: who has none, or others, hears nothing.

Two ways, as this machine has them: ROS nodes, where the middleware of rclpy has security (that of
the PyPI wheels has not), and plain Fast DDS (`apt install libfastrtps-dev`), which rmw_fastrtps
hands the same files by the same properties.
"""

import contextlib
import os
import queue
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from resfit_bringup import security

pytestmark = pytest.mark.launch

needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="the program openssl is not installed"
)
HERE = Path(__file__).parent
LIBRARIES = ("fastrtps", "fastcdr", "foonathan_memory", "tinyxml2", "ssl", "crypto")
TOPIC = "rt/policy_weights"  # learner -> residual_policy, recorder


@pytest.fixture(scope="module", name="domain")
def _domain():
    testing = pytest.importorskip("resfit_ros.testing", reason="ROS 2 is not installed")
    with testing.domain() as number:
        yield number


@pytest.fixture(scope="module", name="keys")
def _keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "theirs"):
        security.make_keys(folder / name)
    return folder


@pytest.fixture(scope="module", name="program")
def _program(tmp_path_factory):
    path = tmp_path_factory.mktemp("peer") / "secured_peer"
    words = ["g++", "-std=c++17", str(HERE / "secured_peer.cpp"), "-o", str(path), "-pthread",
             *(f"-l{name}" for name in LIBRARIES)]  # fmt: skip
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no g++")
    if "No such file" in done.stderr or "cannot find -l" in done.stderr:
        pytest.skip("Fast DDS cannot be compiled against here (apt install libfastrtps-dev)")
    assert done.returncode == 0, done.stderr
    return path


class Peer:
    """One side; `said` are its words as they come."""

    def __init__(self, words, env=None):
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, env=env,
        )  # fmt: skip
        self._lines = queue.Queue()
        self.said = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self._process.stdout:
            if line.startswith(("ready", "refused", "heard")):  # the library logs there as well
                self._lines.put(line.strip())
        self._lines.put("ended")

    def wait_for(self, word, count=1, timeout_s=30.0):
        """Return whether it says so, so many times."""
        try:
            while self.said.count(word) < count:
                if "ended" in self.said:
                    return False
                self.said.append(self._lines.get(timeout=timeout_s))
        except queue.Empty:
            return False
        return True

    def first(self, timeout_s=30.0):
        """Return its first word: ready, refused …, or ended."""
        self.said.append(self._lines.get(timeout=timeout_s))
        return self.said[0]

    def silent(self):
        """Return whether it lives and has heard nothing so far."""
        while not self._lines.empty():
            self.said.append(self._lines.get())
        return self.said == ["ready"]

    def close(self):
        self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@pytest.fixture(name="peer", params=["fastdds", "ros"])
def _peer(request, domain, keys):
    """Start a side: (keystore and enclave, or none; pub or sub; topic)."""
    command = {"fastdds": _fastdds, "ros": _ros}[request.param](request, domain, keys)
    with contextlib.ExitStack() as stack:

        def start(place, role, topic=TOPIC):
            for _ in range(5):
                made = Peer(*command(place, role, topic))
                stack.callback(made.close)
                # Fast DDS 2.9 aborts now and then where it hears of others while it starts.
                if made.first() != "ended":
                    return made
            raise AssertionError(f"{place} does not come up")

        yield start


def _fastdds(request, domain, keys):
    program = str(request.getfixturevalue("program"))
    # Libraries lie where the compiler found them; those of ROS are of another Fast DDS.
    env = {**os.environ, "LD_LIBRARY_PATH": os.environ.get("LIBRARY_PATH", "")}
    # The profiles of ours are for the Fast DDS that ROS comes with.
    for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"):
        env.pop(name, None)

    def command(place, role, topic):
        store, _, enclave = place.partition("/")
        folder = keys / store / "enclaves" / enclave if enclave else "none"
        return [program, str(folder), role, topic, str(domain)], env

    return command


def _ros(request, domain, keys):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _secure(keys / "ours").items():
            patch.setenv(name, value)
        why = security.why_not("learner")
    if why:
        pytest.skip(f"no secured node here: {why}")

    def command(place, role, topic):
        store, _, node = place.partition("/")
        env = {
            **os.environ,
            "ROS_DOMAIN_ID": str(domain),
            **(_secure(keys / store) if node else {}),
        }
        words = [sys.executable, str(HERE / "secured_peer.py"), node or "none", role]
        return [*words, topic.removeprefix("rt/")], env

    return command


def _secure(keystore):
    return {
        "ROS_SECURITY_ENABLE": "true",
        "ROS_SECURITY_STRATEGY": "Enforce",
        "ROS_SECURITY_KEYSTORE": str(keystore),
    }


@needs_openssl
def test_only_who_has_the_keys_hears(peer):
    keyed, other, none = (
        peer(place, "sub") for place in ("ours/residual_policy", "theirs/recorder", "none")
    )
    peer("ours/learner", "pub")
    assert keyed.wait_for("heard", 20)
    assert none.silent() and other.silent()
    # They are not deaf: somebody without keys reaches who has none, and nobody else.
    peer("none", "pub")
    assert none.wait_for("heard", 5)
    assert other.silent()


@needs_openssl
def test_a_stranger_commands_no_joint(peer):
    twin = peer("ours/twin", "sub", "rt/joint_command")
    witness = peer("none", "sub", "rt/joint_command")
    peer("none", "pub", "rt/joint_command")
    assert witness.wait_for("heard", 20), "the forger speaks"
    assert twin.silent()
    peer("ours/vega_driver", "pub", "rt/joint_command")
    assert twin.wait_for("heard", 5), "it is not deaf"


@needs_openssl
@pytest.mark.parametrize(
    ("place", "role", "topic", "said"),
    [
        ("ours/vega_driver", "pub", "rt/joint_command", "ready"),
        ("ours/learner", "pub", "rt/joint_command", "refused writer"),
        ("ours/panel", "pub", "rt/policy_weights", "refused writer"),
        ("ours/panel", "sub", "rt/step", "refused reader"),
        ("ours/recorder", "sub", "rt/step", "ready"),
    ],
)
def test_an_enclave_opens_what_its_policy_names_and_nothing_else(peer, place, role, topic, said):
    assert peer(place, role, topic).said == [said]
