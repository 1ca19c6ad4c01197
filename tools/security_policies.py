"""Write config/security/policies.xml from a running graph: who publishes, hears, serves, calls.

    tools/env.sh resfit run train panel:=true &           # in another shell
    tools/env.sh python tools/security_policies.py          # adds what it sees
    tools/env.sh python tools/security_policies.py --check  # says what is lacking

The file is SROS2's policy format, one enclave per node.
"""

from __future__ import annotations

import argparse
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import rclpy

FILE = Path(__file__).resolve().parents[1] / "config" / "security" / "policies.xml"
KINDS = {
    ("topics", "publish"): "get_publisher_names_and_types_by_node",
    ("topics", "subscribe"): "get_subscriber_names_and_types_by_node",
    ("services", "reply"): "get_service_names_and_types_by_node",
    ("services", "request"): "get_client_names_and_types_by_node",
}
_LOOK_S = 15.0
Found = dict[str, dict[tuple[str, str], set[str]]]


def look() -> Found:
    """Return node to (kind, direction) to names, as seen over some seconds."""
    rclpy.init()
    node = rclpy.create_node("security_policies")
    found: Found = {}
    until = time.monotonic() + _LOOK_S
    while time.monotonic() < until:
        for name, namespace in node.get_node_names_and_namespaces():
            if name.startswith(("_", "security_policies")):
                continue
            for kind, method in KINDS.items():
                seen = getattr(node, method)(name, namespace)
                names = found.setdefault(name, {}).setdefault(kind, set())
                names |= {topic.lstrip("/") for topic, _ in seen}
        time.sleep(0.5)
    return found


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


def main() -> int:
    """Look at the graph."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only say what the file lacks")
    given = parser.parse_args()
    known, seen = read(), look()
    lacks = [
        f"{node}: {direction} {name}"
        for node, rules in sorted(seen.items())
        for (tag, direction), names in sorted(rules.items())
        for name in sorted(names - known.get(node, {}).get((tag, direction), set()))
    ]
    if given.check:
        print("\n".join(lacks) or f"{len(seen)} nodes, all allowed")
        return 1 if lacks else 0
    for node, rules in seen.items():
        for kind, names in rules.items():
            known.setdefault(node, {}).setdefault(kind, set()).update(names)
    write(known)
    print(f"{FILE}: {len(known)} nodes, {len(lacks)} lines new")
    return 0


if __name__ == "__main__":
    sys.exit(main())
