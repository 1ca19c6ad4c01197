"""Training configuration and update rules. Imports nothing."""
