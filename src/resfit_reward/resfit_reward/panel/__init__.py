"""The operator's panel: what it knows and shows (plain classes), and the web page around it."""
