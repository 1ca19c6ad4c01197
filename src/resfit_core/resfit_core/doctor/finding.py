"""What a check says."""

from __future__ import annotations

from dataclasses import dataclass

OK, FAIL, SKIPPED = "ok", "fail", "skipped"
"""All is well; mend it before you trust the run; there was nothing yet to check."""


@dataclass(frozen=True)
class Finding:
    """The word of one check.

    Attributes:
        check: Its name, for scripts.
        state: `ok`, `fail` or `skipped`.
        says: One plain sentence, with the numbers.
        fix: What to do; empty where nothing is wrong.
    """

    check: str
    state: str
    says: str
    fix: str = ""

    @property
    def failed(self) -> bool:
        """Whether something is to be mended."""
        return self.state == FAIL

    def line(self) -> str:
        """Return it as text for a terminal."""
        mark = {OK: "ok  ", FAIL: "FAIL", SKIPPED: "–   "}[self.state]
        fix = f"\n       fix: {self.fix}" if self.fix else ""
        return f"{mark}   {self.check}: {self.says}{fix}"


def good(check: str, says: str) -> Finding:
    """Return that all is well."""
    return Finding(check, OK, says)


def bad(check: str, says: str, fix: str) -> Finding:
    """Return what is wrong and how to mend it."""
    return Finding(check, FAIL, says, fix)


def skipped(check: str, says: str) -> Finding:
    """Return why nothing could be checked."""
    return Finding(check, SKIPPED, says)
