"""Who says how an episode ended: the operator's button and the episode manager."""
