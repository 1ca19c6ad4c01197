"""Write config/security/policies.xml: which node publishes, hears, serves and calls what.

    tools/env.sh python tools/security_policies.py             # starts the graphs below, looks
    tools/env.sh python tools/security_policies.py --check     # says what the file lacks
    tools/env.sh python tools/security_policies.py --running   # looks at a graph of your own

The graphs below hold every node of ours, with everything that it may open. What cannot be seen
from outside is added from the configuration (`by_configuration`). The file is SROS2's policy
format, one enclave per node; lines that are there stay.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import rclpy

from resfit_bringup.graph import JOBS, resolve
from resfit_core.classifier.net import Classifier, SuccessNet
from resfit_core.contract import load_contract

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "config" / "security" / "policies.xml"
GOLDEN = ROOT / "src/resfit_bringup/test/golden"
KINDS = {
    ("topics", "publish"): "get_publisher_names_and_types_by_node",
    ("topics", "subscribe"): "get_subscriber_names_and_types_by_node",
    ("services", "reply"): "get_service_names_and_types_by_node",
    ("services", "request"): "get_client_names_and_types_by_node",
}
HANDS = ("left_hand", "right_hand")  # of the vendor's nodes, as docs/safety.md names them
_LOOK_S = 15.0  # at a graph of the user
_STILL_S = 3.0  # nothing new for so long: all is open
_START_S = 90.0
Found = dict[str, dict[tuple[str, str], set[str]]]

GRAPHS: dict[str, tuple[str, ...]] = {
    "expert": ("train", "teleop:=expert", "panel:=true", "panel_port:=0", "report:=false"),
    "pixels": (
        "record", "observation:=pixels", "clock:=realtime", "record:=cameras", "camera:=file",
        "camera_file:={scratch}/pictures", "teleop:=gamepad", "reward:=classifier",
        "classifier:={scratch}/success.safetensors",
    ),
    "robot": ("train", "client:=fake", "learner:=external", "report:=false"),
    "blind": (
        "evaluate", "policies:=base,{weights}",
        "train_config:={golden}/config/train.yaml",
    ),
    # Several times over: one is done in less than the nodes take to find each other.
    "replay": ("replay", "bag:=" + ",".join(["{golden}"] * 20)),
}  # fmt: skip
"""Words of `resfit run`; together they start every node of ours."""


def ours() -> set[str]:
    """Return every node of this repository that a job can start."""
    nodes = (node for job in JOBS.values() for node in job.nodes)
    return {node.name for node in nodes if node.package.startswith("resfit_")}


def words_of(name: str, scratch: Path) -> list[str]:
    """Return what to start for a graph; write the files that it needs.

    Args:
        name: Of `GRAPHS`.
        scratch: Folder of this graph alone.
    """
    (weights,) = (GOLDEN / "weights").iterdir()
    job, *words = (
        word.format(scratch=scratch, golden=GOLDEN, weights=weights) for word in GRAPHS[name]
    )
    contract = load_contract(
        ROOT / "config/robot/vega_1.yaml", ROOT / "config/task/woolly_ball_pnp.yaml", "pixels"
    )
    net = SuccessNet(len(contract.images), contract.image_size)
    Classifier(net, contract.images, contract.image_size, contract.sha256).save(
        scratch / "success.safetensors"
    )
    (scratch / "pictures").mkdir()
    left = contract.camera("left")
    both = np.full((left.height, 2 * left.width, 3), 128, np.uint8)
    cv2.imwrite(str(scratch / "pictures/both.png"), both)
    if "keyboard" in {argument.name for argument in JOBS[job].arguments}:
        words.append("keyboard:=false")
    return [job, *words, f"run_dir:={scratch / 'run'}"]


def watch(name: str, scratch: Path) -> Found:
    """Start a graph, look until all is open, stop it; return what it opened.

    Raises:
        RuntimeError: It did not come up; with its last words.
    """
    job, *words = words_of(name, scratch)
    wanted = {node.name for node in resolve(job, dict(w.split(":=", 1) for w in words)).nodes}
    log = scratch / "log.txt"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "resfit_bringup.main", "run", job, *words],
            cwd=scratch, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    try:
        return look(lambda found: wanted <= set(found), lambda: process.poll() is None)
    except TimeoutError as error:
        raise RuntimeError(
            f"graph '{name}': {error}; it said:\n{log.read_text()[-2000:]}"
        ) from error
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def look(complete: Callable[[Found], bool], alive: Callable[[], bool] = lambda: True) -> Found:
    """Return node to (kind, direction) to names, as seen until nothing new comes.

    Args:
        complete: Whether all nodes are there.
        alive: Whether anything new may still come.

    Raises:
        TimeoutError: They did not all come; names those that did.
    """
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("security_policies", context=context)
    found: Found = {}
    began = changed = time.monotonic()
    try:
        while True:
            for who, kind, names in _open(node):
                known = found.setdefault(who, {}).setdefault(kind, set())
                if not names <= known:
                    known |= names
                    changed = time.monotonic()
            now = time.monotonic()
            over = not alive()  # a replay is over soon
            if complete(found) and (over or now - changed > _STILL_S):
                return found
            if over or now - began > _START_S:
                raise TimeoutError(f"only {', '.join(sorted(found)) or 'nobody'} came up")
            time.sleep(0.1)
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


def _open(node: rclpy.node.Node) -> Iterator[tuple[str, tuple[str, str], set[str]]]:
    for name, namespace in node.get_node_names_and_namespaces():
        if name.startswith("_") or name == node.get_name():
            continue
        for kind, method in KINDS.items():
            try:
                seen = getattr(node, method)(name, namespace)
            except rclpy.node.NodeNameNonExistentError:
                continue  # it left meanwhile
            yield name, kind, {topic.lstrip("/") for topic, _ in seen}


def by_configuration() -> Found:
    """Return what no graph here opens: pictures on a page or of a bag, hands of the vendor."""
    contract = load_contract(
        ROOT / "config/robot/vega_1.yaml", ROOT / "config/task/woolly_ball_pnp.yaml", "pixels"
    )
    cameras = {contract.camera(name).topic for name in contract.images}
    return {
        "panel": {("topics", "subscribe"): cameras},
        "player": {("topics", "publish"): cameras},
        "vega_driver": {
            ("topics", "subscribe"): {f"{hand}/current_joint_states" for hand in HANDS},
            ("topics", "publish"): {f"{hand}/target_joint_states" for hand in HANDS},
        },
    }


def read(file: Path = FILE) -> Found:
    """Return what the file allows; nothing where there is none."""
    found: Found = {}
    if file.exists():
        for profile in ET.parse(file).getroot().iter("profile"):
            rules = found.setdefault(profile.attrib["node"], {})
            for group in profile:
                for direction in group.attrib:
                    names = rules.setdefault((group.tag, direction), set())
                    names |= {child.text for child in group}
    return found


def write(found: Found, file: Path = FILE) -> None:
    """Write the policy file."""
    root = ET.Element("policy", version="0.2.0")
    enclaves = ET.SubElement(root, "enclaves")
    for name, rules in sorted(found.items()):
        enclave = ET.SubElement(enclaves, "enclave", path=f"/{name}")
        profiles = ET.SubElement(enclave, "profiles")
        profile = ET.SubElement(profiles, "profile", ns="/", node=name)
        for (tag, direction), names in sorted(rules.items()):
            if names:
                group = ET.SubElement(profile, tag, {direction: "ALLOW"})
                for text in sorted(names):
                    ET.SubElement(group, tag[:-1]).text = text
    ET.indent(root)
    file.parent.mkdir(parents=True, exist_ok=True)
    ET.ElementTree(root).write(file, encoding="utf-8", xml_declaration=True)
    file.write_text(file.read_text() + "\n")


def lacking(seen: Found, known: Found) -> list[str]:
    """Return in words what `known` does not allow of what was seen."""
    return [
        f"{node}: {direction} {name}"
        for node, rules in sorted(seen.items())
        for (tag, direction), names in sorted(rules.items())
        for name in sorted(names - known.get(node, {}).get((tag, direction), set()))
    ]


def merge(into: Found, more: Found) -> None:
    """Add what one holds to the other."""
    for node, rules in more.items():
        for kind, names in rules.items():
            into.setdefault(node, {}).setdefault(kind, set()).update(names)


def main() -> int:
    """Look at the graphs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only say what the file lacks")
    parser.add_argument("--running", action="store_true", help="look at what runs, start nothing")
    parser.add_argument("--only", nargs="*", default=list(GRAPHS), choices=list(GRAPHS))
    given = parser.parse_args()
    known, seen = read(), by_configuration()
    if given.running:
        until = time.monotonic() + _LOOK_S
        merge(seen, look(lambda _: time.monotonic() > until))
    else:
        for name in given.only:
            print(f"{name}: resfit run {' '.join(GRAPHS[name])}", flush=True)
            with tempfile.TemporaryDirectory(prefix="policies_") as scratch:
                merge(seen, watch(name, Path(scratch)))
    lacks = lacking(seen, known)
    if given.check:
        print("\n".join(lacks) or f"{len(seen)} nodes, all allowed")
        return 1 if lacks else 0
    merge(known, seen)
    write(known)
    print(f"{FILE}: {len(known)} nodes, {len(lacks)} lines new")
    return 0


if __name__ == "__main__":
    sys.exit(main())
