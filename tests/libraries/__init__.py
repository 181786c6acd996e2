"""Libraries as their users call them, in green functions, against real servers."""
