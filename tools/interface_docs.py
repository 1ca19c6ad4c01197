"""Write docs/interfaces/: one page per message and service, made from the definitions themselves.

python tools/interface_docs.py [--check]     (--check only says whether the pages are up to date)
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src/resfit_interfaces"
PAGES = ROOT / "docs/interfaces"
NOTE = "<!-- Written by `make docs` from the definition; edit that instead. -->"
LINE = re.compile(r"^(?P<type>[\w/]+(?:\[\d*\])?)\s+(?P<name>\w+)\s*(?:=\s*(?P<value>\S+))?$")


def cell(text: str) -> str:
    """Return text that does not end a table's cell."""
    return text.replace("|", "\\|")


def page_of(path: Path) -> str:
    """Return the page of one .msg or .srv file."""
    kind = "Message" if path.suffix == ".msg" else "Service"
    out = [f"# {path.stem}", "", NOTE, ""]
    out += [f"{kind} `resfit_interfaces/{path.suffix[1:]}/{path.stem}`,"]
    out += [f"defined in [{path.name}](../../{path.relative_to(ROOT)}).", ""]
    sections = re.split(r"^---$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    titles = [""] if len(sections) == 1 else ["Request", "Response"]
    for title, section in zip(titles, sections, strict=True):
        if title:
            out += [f"## {title}", ""]
        out += section_of(section)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(out)).rstrip() + "\n"


def section_of(text: str) -> list[str]:
    """Return one part of a definition: comments as text, fields and constants as tables."""
    out: list[str] = []
    heads = {"constant": "| Constant | Value | Meaning |", "field": "| Field | Type | Meaning |"}
    table = ""
    for raw in text.splitlines():
        code, _, comment = raw.partition("#")
        match = LINE.match(code.strip())
        comment = comment.strip()
        if match is None:
            table = ""
            out += [comment] if comment else ([""] if out and out[-1] else [])
            continue
        kind = "constant" if match["value"] else "field"
        if kind != table:
            out += ["", heads[kind], "| --- | --- | --- |"]
            table = kind
        second = match["value"] or match["type"]
        out.append(f"| `{match['name']}` | `{second}` | {cell(comment)} |")
    return [*out, ""]


def pages() -> dict[Path, str]:
    """Return all pages by their path, the index included."""
    made = {}
    index = ["# Messages and services", "", NOTE, ""]
    for path in sorted([*SOURCE.glob("msg/*.msg"), *SOURCE.glob("srv/*.srv")]):
        first = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        index.append(f"- [{path.stem}]({path.stem}.md): {first}")
        made[PAGES / f"{path.stem}.md"] = page_of(path)
    made[PAGES / "README.md"] = "\n".join(index) + "\n"
    return made


def main() -> int:
    """Write or check the pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    made = pages()
    old = [
        p for p, text in made.items() if not p.exists() or p.read_text(encoding="utf-8") != text
    ]
    gone = [path for path in PAGES.glob("*.md") if path not in made]
    if check:
        for path in [*old, *gone]:
            print(f"{path.relative_to(ROOT)} is old: run `make docs` and commit it")
        return 1 if old or gone else 0
    PAGES.mkdir(parents=True, exist_ok=True)
    for path in gone:
        path.unlink()
    for path in old:
        path.write_text(made[path], encoding="utf-8")
    print(f"{len(made)} pages in docs/interfaces, {len(old)} rewritten, {len(gone)} removed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
