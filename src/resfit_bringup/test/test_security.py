"""SROS2 policies and keys: every node has an enclave, what is signed verifies, nothing rots."""

import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from resfit_bringup import checks, paths, run, security
from resfit_bringup.errors import UsageError
from resfit_bringup.graph import JOBS, resolve

ROOT = Path(__file__).resolve().parents[3]
needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="the program openssl is not installed"
)


def rules(direction):
    """Node to topics of the shipped policies."""
    found = {}
    for profile in ET.parse(security.policies_file()).getroot().iter("profile"):
        for group in profile.findall("topics"):
            if direction in group.attrib:
                found[profile.attrib["node"]] = {topic.text for topic in group}
    return found


def test_every_node_of_ours_has_an_enclave():
    policies = ET.parse(security.policies_file()).getroot()
    enclaves = {profile.attrib["node"] for profile in policies.iter("profile")}
    nodes = [node for job in JOBS.values() for node in job.nodes]
    assert {n.name for n in nodes if n.package.startswith("resfit_")} <= enclaves


def test_the_documented_topics_are_allowed_to_who_publishes_them():
    """The table of docs/architecture.md: name, type, from -> to."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    publish, checked = rules("publish"), 0
    for name, sender in re.findall(r"^\| `(\w+)` \| [^|]+ \| (\w+) →", text, re.M):
        if sender in publish:
            assert name in publish[sender], f"{sender} may not publish {name}"
            checked += 1
    assert checked >= 8


def test_the_recorder_may_hear_weights_of_a_learner_elsewhere():
    assert "policy_weights" in rules("subscribe")["recorder"]


def openssl(*words):
    done = subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module", name="keys")
def _keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys") / "keystore"
    security.make_keys(folder)
    return folder


@needs_openssl
def test_keys_and_signatures_verify(keys):
    ca = keys / "public" / "ca.cert.pem"
    enclave = keys / "enclaves" / "learner"
    openssl("verify", "-CAfile", ca, enclave / "cert.pem")
    assert "/learner" in openssl("x509", "-in", enclave / "cert.pem", "-noout", "-subject")
    for signed in ("permissions.p7s", "governance.p7s"):
        text = openssl("smime", "-verify", "-text", "-in", enclave / signed, "-CAfile", ca)
        assert "<dds" in text
    assert (enclave / "key.pem").stat().st_mode & 0o077 == 0
    root = ET.parse(enclave / "permissions.xml").getroot()
    published = {t.text for t in root.findall(".//publish/topics/topic")}
    assert {"rt/policy_weights", "rr/learner/get_parametersReply"} <= published
    assert "rt/joint_command" not in published, "only the driver commands joints"
    assert root.find(".//subject_name").text == "CN=/learner"


@needs_openssl
def test_a_changed_permission_does_not_verify(keys, tmp_path):
    signed = (keys / "enclaves" / "learner" / "permissions.p7s").read_text()
    forged = tmp_path / "forged.p7s"
    forged.write_text(signed.replace("rt/policy_weights", "rt/joint_command", 1))
    done = subprocess.run(
        ["openssl", "smime", "-verify", "-text", "-in", forged, "-CAfile",
         keys / "public" / "ca.cert.pem"], capture_output=True,
    )  # fmt: skip
    assert done.returncode != 0


@needs_openssl
def test_keys_are_never_overwritten(keys):
    with pytest.raises(UsageError, match="never overwritten"):
        security.make_keys(keys)


SECURE = {"ROS_SECURITY_ENABLE": "true", "ROS_SECURITY_STRATEGY": "Enforce"}


@needs_openssl
def test_each_node_is_started_in_its_enclave(keys, share, monkeypatch):
    monkeypatch.setattr(paths, "executable", lambda package, name: Path("/bin/true"))
    plan = resolve("learner", {"run_dir": "runs/cup"})
    (learner,) = plan.nodes
    assert "--enclave" not in run.ros_arguments(plan, learner, share)
    for name, value in {**SECURE, "ROS_SECURITY_KEYSTORE": str(keys)}.items():
        monkeypatch.setenv(name, value)
    (command,) = run.commands(plan, share)
    assert command.argv[-2:] == ["--enclave", "/learner"]


def test_a_middleware_without_security_is_said_before_anything_starts(monkeypatch, share):
    """Otherwise every node would die of it, one after the other, again and again."""
    asked = []
    monkeypatch.setattr(security, "why_not", lambda node: asked.append(node) or "no libraries")
    monkeypatch.setattr(security, "enclave_arguments", lambda node: [])
    monkeypatch.setattr(paths, "executable", lambda package, name: Path("/bin/true"))
    plan = resolve("learner", {"run_dir": "runs/cup"})
    checks.check(plan)
    assert asked == [], "nobody asked for security"
    monkeypatch.setenv("ROS_SECURITY_ENABLE", "true")
    with pytest.raises(UsageError, match=r"enclave '/learner': no libraries.*ROS 2 install"):
        checks.check(plan)


def test_a_node_without_an_enclave_is_said_before_anything_starts(tmp_path, monkeypatch):
    for name, value in {**SECURE, "ROS_SECURITY_KEYSTORE": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=r"no enclave of node 'learner'.*security-keys"):
        security.enclave_arguments("learner")
