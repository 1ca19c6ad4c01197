"""Check what no other linter reads: YAML, XML, JSON, TOML, links, symlinks, sizes.

python tools/check_files.py     (part of `make lint`; prints each fault and then exits with 1)
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Hashable
from pathlib import Path

import tomllib
import yaml

ROOT = Path(__file__).resolve().parent.parent
LARGEST_FILE_MB = 10.0
LARGEST_SUM_MB = 25.0
LINK = re.compile(r"!?\[[^\]]*\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)")


class UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a mapping that names a key twice; YAML would silently take the last."""

    def construct_mapping(
        self, node: yaml.MappingNode, deep: bool = False
    ) -> dict[Hashable, object]:
        """Build a mapping after looking at its keys."""
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=deep)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def check_yaml(path: Path) -> None:
    """Read every document of a YAML file."""
    with path.open(encoding="utf-8") as stream:
        for _ in yaml.load_all(stream, Loader=UniqueKeyLoader):
            pass


def check_markdown(path: Path) -> None:
    """Follow the relative links of a page, outside code."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in LINK.findall(text):
        if "://" in target or target.startswith(("#", "mailto:")):
            continue
        if not (path.parent / target.split("#")[0]).exists():
            raise ValueError(f"link to {target}, which is not there")


CHECKS: dict[str, Callable[[Path], object]] = {
    ".yaml": check_yaml,
    ".yml": check_yaml,
    ".xml": ET.parse,
    ".urdf": ET.parse,
    ".svg": ET.parse,
    ".json": lambda path: json.loads(path.read_text(encoding="utf-8")),
    ".toml": lambda path: tomllib.loads(path.read_text(encoding="utf-8")),
    ".md": check_markdown,
}


def files() -> list[Path]:
    """Return what is in the repository or about to be: tracked, and new but not ignored."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return sorted({ROOT / name for name in done.stdout.split("\0") if name})


def fault_of(path: Path) -> str | None:
    """Return what is wrong with a file, in one line, or None."""
    if path.is_symlink():
        target = path.resolve()
        if not target.exists() or ROOT not in target.parents:
            return "symlink to nowhere or out of the repository"
        return None
    size_mb = path.stat().st_size / 1e6
    if size_mb > LARGEST_FILE_MB:
        return f"{size_mb:.1f} MB; at most {LARGEST_FILE_MB:.0f} MB"
    try:
        check = CHECKS.get(path.suffix)
        if check:
            check(path)
    except (ValueError, yaml.YAMLError, ET.ParseError) as error:
        return " ".join(str(error).split())
    return None


def twins(paths: list[Path]) -> list[tuple[Path, str]]:
    """Return modules below test/ folders that share a name: pytest imports only one of them."""
    first: dict[str, Path] = {}
    faults = []
    for path in paths:
        if path.suffix == ".py" and path.parent.name == "test" and path.name != "conftest.py":
            other = first.setdefault(path.name, path)
            if other is not path:
                faults.append((path, f"same module name as {other.relative_to(ROOT)}; rename one"))
    return faults


def main() -> int:
    """Check all files."""
    present = [path for path in files() if path.is_symlink() or path.exists()]
    faults = [(path, fault) for path in present if (fault := fault_of(path))] + twins(present)
    for path, fault in faults:
        print(f"{path.relative_to(ROOT)}: {fault}")
    total_mb = sum(path.stat().st_size for path in present if path.is_file()) / 1e6
    if total_mb > LARGEST_SUM_MB:
        print(f"all files together: {total_mb:.1f} MB; at most {LARGEST_SUM_MB:.0f} MB")
        return 1
    print(f"{len(present)} files, {total_mb:.1f} MB: {len(faults) or 'no'} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
