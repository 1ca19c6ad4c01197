"""Critic, actor, normalisation and the torch twin of the combine rule. Imports nothing."""
