"""Rules of the control path: combine, observe, filter, episodes. numpy only."""
