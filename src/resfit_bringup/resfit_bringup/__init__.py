"""Bring-up: one description of each job's graph, two front ends, one report."""
