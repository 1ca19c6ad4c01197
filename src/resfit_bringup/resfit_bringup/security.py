"""`resfit security-keys DIR`: an SROS2 keystore for every node of config/security/policies.xml.

The layout is that of `ros2 security create_keystore`; made with the `openssl` program alone, so
that it works where the sros2 tools are not installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

from resfit_bringup import paths
from resfit_bringup.errors import UsageError

_DAYS = 3650
_PARAMETER_SERVICES = (
    "describe_parameters", "get_parameter_types", "get_parameters", "list_parameters",
    "set_parameters", "set_parameters_atomically", "get_type_description",
)  # fmt: skip
_ALWAYS_PUBLISH = ("rt/rosout", "rt/parameter_events", "ros_discovery_info")
_ALWAYS_SUBSCRIBE = ("rt/parameter_events", "rt/clock", "ros_discovery_info")

_TRY = """
import sys, rclpy
try:
    rclpy.init(args=["--ros-args", "--enclave", f"/{sys.argv[1]}"])
    rclpy.create_node(sys.argv[1])
except Exception as error:
    print(" ".join(str(error).split()))
    sys.exit(1)
"""

GOVERNANCE = """<?xml version="1.0" encoding="UTF-8"?>
<dds xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
  xsi:noNamespaceSchemaLocation="http://www.omg.org/spec/DDS-SECURITY/20170901/omg_shared_ca_governance.xsd">
  <domain_access_rules>
    <domain_rule>
      <domains><id_range><min>0</min><max>230</max></id_range></domains>
      <allow_unauthenticated_participants>false</allow_unauthenticated_participants>
      <enable_join_access_control>true</enable_join_access_control>
      <discovery_protection_kind>ENCRYPT</discovery_protection_kind>
      <liveliness_protection_kind>ENCRYPT</liveliness_protection_kind>
      <rtps_protection_kind>SIGN</rtps_protection_kind>
      <topic_access_rules>
        <topic_rule>
          <topic_expression>*</topic_expression>
          <enable_discovery_protection>true</enable_discovery_protection>
          <enable_liveliness_protection>true</enable_liveliness_protection>
          <enable_read_access_control>true</enable_read_access_control>
          <enable_write_access_control>true</enable_write_access_control>
          <metadata_protection_kind>ENCRYPT</metadata_protection_kind>
          <data_protection_kind>ENCRYPT</data_protection_kind>
        </topic_rule>
      </topic_access_rules>
    </domain_rule>
  </domain_access_rules>
</dds>
"""


def policies_file() -> Path:
    """Return the policies that are shipped."""
    return paths.share() / "config" / "security" / "policies.xml"


def is_on() -> bool:
    """Whether `ROS_SECURITY_ENABLE` asks for security."""
    return os.environ.get("ROS_SECURITY_ENABLE", "").lower() == "true"


def why_not(node: str) -> str:
    """Return why no node can be made in its enclave, in the middleware's words; empty: it can.

    A child tries it: a middleware built without security says so only then.
    """
    done = subprocess.run(
        [sys.executable, "-c", _TRY, node], check=False, capture_output=True, text=True, timeout=60
    )
    return "" if done.returncode == 0 else done.stdout.strip() or done.stderr.strip()[-300:]


def require(node: str) -> None:
    """Refuse to start where security is on and cannot be had.

    Raises:
        UsageError: With the middleware's words.
    """
    why = why_not(node) if is_on() else ""
    if why:
        raise UsageError(
            f"ROS_SECURITY_ENABLE=true, but no node can be made in enclave '/{node}': {why}; the "
            "Fast DDS of the PyPI wheels is built without security: use a ROS 2 install, or unset "
            "ROS_SECURITY_ENABLE on a network that is the robot's own"
        )


def enclave_arguments(node: str) -> list[str]:
    """Return the ROS arguments that put a node into its enclave; none where security is off.

    `ROS_SECURITY_ENABLE`, `ROS_SECURITY_STRATEGY` and `ROS_SECURITY_KEYSTORE` are SROS2's own.

    Raises:
        UsageError: Security is on and the keystore has no enclave of the node.
    """
    if not is_on():
        return []
    keystore = os.environ.get("ROS_SECURITY_KEYSTORE", "")
    folder = Path(keystore) / "enclaves" / node
    enforced = os.environ.get("ROS_SECURITY_STRATEGY", "").lower() == "enforce"
    if enforced and not (keystore and (folder / "key.pem").is_file()):
        raise UsageError(
            f"ROS_SECURITY_ENABLE=true, and '{folder}' is no enclave of node '{node}': make the "
            "keys with 'resfit security-keys DIR' and set ROS_SECURITY_KEYSTORE=DIR"
        )
    return ["--enclave", f"/{node}"]


def make_keys(folder: Path, policies: Path | None = None) -> list[str]:
    """Make a keystore with one enclave per node; return the nodes.

    Args:
        folder: New or empty; the keys in it are secret.
        policies: SROS2 policy file; None: the shipped one.

    Raises:
        UsageError: The folder is in use, a file is unfit, or `openssl` is missing or refuses.
    """
    if shutil.which("openssl") is None:
        raise UsageError("the program 'openssl' is not installed; install it (apt: openssl)")
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"'{folder}' is not empty: keys are never overwritten; give a new folder")
    policies = policies or policies_file()
    try:
        profiles = list(ET.parse(policies).getroot().iter("profile"))
    except (OSError, ET.ParseError) as error:
        raise UsageError(f"'{policies}' is no policy file: {error}") from error
    public, private, enclaves = folder / "public", folder / "private", folder / "enclaves"
    for path in (public, private, enclaves):
        path.mkdir(parents=True)
    private.chmod(0o700)
    _make_ca(public, private)
    _sign(enclaves / "governance", GOVERNANCE, public, private)
    for profile in profiles:
        _make_enclave(enclaves, profile, public, private)
    return [profile.attrib["node"] for profile in profiles]


def permissions(profile: ET.Element) -> str:
    """Return the DDS permissions of one node, as SROS2 maps ROS names to DDS topics."""
    node = profile.attrib["node"]
    publish, subscribe = set(_ALWAYS_PUBLISH), set(_ALWAYS_SUBSCRIBE)
    for service in _PARAMETER_SERVICES:
        subscribe.add(f"rq/{node}/{service}Request")
        publish.add(f"rr/{node}/{service}Reply")
    for group in profile:
        names = [str(child.text).lstrip("/") for child in group]
        if "publish" in group.attrib:
            publish |= {f"rt/{name}" for name in names}
        if "subscribe" in group.attrib:
            subscribe |= {f"rt/{name}" for name in names}
        if "reply" in group.attrib:
            subscribe |= {f"rq/{name}Request" for name in names}
            publish |= {f"rr/{name}Reply" for name in names}
        if "request" in group.attrib:
            publish |= {f"rq/{name}Request" for name in names}
            subscribe |= {f"rr/{name}Reply" for name in names}
    rules = "".join(
        f"        <{word}><topics>\n"
        + "".join(f"          <topic>{name}</topic>\n" for name in sorted(names))
        + f"        </topics></{word}>\n"
        for word, names in (("publish", publish), ("subscribe", subscribe))
    )
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<dds xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
  xsi:noNamespaceSchemaLocation="http://www.omg.org/spec/DDS-SECURITY/20170901/omg_shared_ca_permissions.xsd">
  <permissions>
    <grant name="/{node}">
      <subject_name>CN=/{node}</subject_name>
      <validity>
        <not_before>2020-01-01T00:00:00</not_before>
        <not_after>2045-01-01T00:00:00</not_after>
      </validity>
      <allow_rule>
        <domains><id_range><min>0</min><max>230</max></id_range></domains>
{rules}      </allow_rule>
      <default>DENY</default>
    </grant>
  </permissions>
</dds>
"""


def _make_ca(public: Path, private: Path) -> None:
    key, cert = private / "ca.key.pem", public / "ca.cert.pem"
    _key(key)
    _openssl("req", "-x509", "-new", "-sha256", "-key", key, "-out", cert, "-days", _DAYS,
             "-subj", "/CN=sros2CA")  # fmt: skip
    for name in ("identity_ca", "permissions_ca"):
        (public / f"{name}.cert.pem").symlink_to("ca.cert.pem")
        (private / f"{name}.key.pem").symlink_to("ca.key.pem")


def _make_enclave(enclaves: Path, profile: ET.Element, public: Path, private: Path) -> None:
    name = profile.attrib["node"]
    folder = enclaves / name
    folder.mkdir()
    key, request, cert = folder / "key.pem", folder / "request.pem", folder / "cert.pem"
    _key(key)
    # openssl reads a slash as the next part of the name, unless it is escaped.
    _openssl("req", "-new", "-sha256", "-key", key, "-out", request, "-subj", f"/CN=\\/{name}")
    _openssl("x509", "-req", "-sha256", "-in", request, "-out", cert, "-days", _DAYS,
             "-CA", public / "ca.cert.pem", "-CAkey", private / "ca.key.pem",
             "-CAcreateserial")  # fmt: skip
    request.unlink()
    for ca in ("identity_ca", "permissions_ca"):
        (folder / f"{ca}.cert.pem").symlink_to(f"../../public/{ca}.cert.pem")
    (folder / "governance.p7s").symlink_to("../governance.p7s")
    _sign(folder / "permissions", permissions(profile), public, private)


def _key(path: Path) -> None:
    path.touch(mode=0o600)
    _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path)


def _sign(stem: Path, text: str, public: Path, private: Path) -> None:
    """Write `stem`.xml and its signed form `stem`.p7s."""
    document = stem.with_suffix(".xml")
    document.write_text(text)
    _openssl("smime", "-sign", "-text", "-in", document, "-out", stem.with_suffix(".p7s"),
             "-signer", public / "ca.cert.pem", "-inkey", private / "ca.key.pem")  # fmt: skip


def _openssl(*words: object) -> None:
    done = subprocess.run(
        ["openssl", *map(str, words)], check=False, capture_output=True, text=True, timeout=60
    )
    if done.returncode:
        raise UsageError(f"openssl {words[0]} failed: {done.stderr.strip()[-300:]}")
