"""Checks before and during a run: each says in one sentence what is, and how to mend it."""
