"""What a person gave that cannot be used: one line says value, what is needed and the fix."""

from __future__ import annotations


class TrainError(ValueError):
    """An option, environment, base or demonstration file that training cannot start with."""


def one_line(error: BaseException, limit: int = 300) -> str:
    """Return the words of an error on one line, cut in the middle where they are too long."""
    text = " ".join(str(error).split()) or type(error).__name__
    half = limit // 2
    return text if len(text) <= limit else f"{text[:half]} … {text[-half:]}"
