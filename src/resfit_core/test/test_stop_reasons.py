"""Every stop reason is one constant, the same in code, message and docs/safety.md."""

import re
from pathlib import Path

from resfit_core.control.safety import LIMITED, Reason

ROOT = Path(__file__).resolve().parents[3]
SAFETY = ROOT / "docs/safety.md"


def rows():
    """Return the table under "Stops": names of a row, what happens, what to do."""
    table = SAFETY.read_text().split("\n## Stops\n", 1)[1].split("\n## ", 1)[0]
    lines = [
        [cell.strip() for cell in ln.split("|")[1:-1]] for ln in table.splitlines() if "|" in ln
    ]
    assert lines[0] == ["reason", "meaning", "what to do"]
    return [(re.findall(r"`(\w+)`", names), meaning, to_do) for names, meaning, to_do in lines[2:]]


def test_each_reason_is_documented_once_with_what_to_do():
    named = [name for names, *_ in rows() for name in names]
    assert sorted(named) == sorted(reason.name for reason in Reason)
    assert all(meaning and to_do for _, meaning, to_do in rows())


def test_the_table_says_which_reasons_stop():
    """What only alters a command must not read as a stop, nor a stop as an alteration."""
    for names, meaning, _ in rows():
        for name in names:
            limits = bool(Reason[name] & LIMITED)
            stops = any(word in meaning for word in ("held", "refused", "latched", "not active"))
            assert stops != limits, f"{name}: {meaning}"


def test_the_message_has_the_same_constants():
    text = (ROOT / "src/resfit_interfaces/msg/ExecutedCommand.msg").read_text()
    constants = dict(re.findall(r"^uint32 ([A-Z_]+)=(\d+)", text, re.MULTILINE))
    assert {k: int(v) for k, v in constants.items()} == {r.name: r.value for r in Reason}


def test_the_fault_matrix_names_reasons_that_exist():
    text = (ROOT / "docs/faults.md").read_text()
    table = text.split("<!-- table: begin -->")[1].split("<!-- table: end -->")[0]
    cells = [
        [c.strip() for c in ln.split("|")] for ln in table.splitlines() if ln.startswith("| ")
    ]
    column = cells[0].index("reason shown")
    shown = {row[column] for row in cells[1:] if "---" not in row[column]}
    assert shown <= {reason.name for reason in Reason}
    assert len(shown) > 10
