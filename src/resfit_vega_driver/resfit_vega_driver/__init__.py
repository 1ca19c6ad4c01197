"""The only one who commands the robot. Imports no torch."""
