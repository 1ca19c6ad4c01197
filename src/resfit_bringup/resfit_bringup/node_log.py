"""What a node says, in a file; a disk that refuses it ends no run."""

from __future__ import annotations

from pathlib import Path


class NodeLog:
    """Appends a node's lines to a file; those that the disk refuses are left out and counted."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            OSError: It cannot be made.
        """
        self._file = path.open("ab", buffering=0)  # nothing is left to be written at the end
        self._lost = 0

    def write(self, text: str) -> None:
        """Append one line."""
        said = f"--- {self._lost} lines are missing here: the disk refused them ---\n"
        data = ((said if self._lost else "") + text + "\n").encode(errors="replace")
        try:
            whole = self._file.write(data) == len(data)
        except OSError:
            whole = False
        self._lost = 0 if whole else self._lost + 1

    def __enter__(self) -> NodeLog:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._file.close()
