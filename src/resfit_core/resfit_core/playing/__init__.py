"""Recorded episodes through the live nodes: what is shown when, and what came of it."""
