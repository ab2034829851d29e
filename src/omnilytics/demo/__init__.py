"""A whole market in one process: every party is the real one, only the network is in memory."""
