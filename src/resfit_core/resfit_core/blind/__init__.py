"""Blind A/B evaluation: the seal, what hides behind it, and what the verdicts say."""
