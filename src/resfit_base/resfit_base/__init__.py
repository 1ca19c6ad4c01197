"""The frozen base policy: its node and the command that trains it."""
