"""Processes: who they are, how they are started, locked out and ended. Knows nothing of agents or git."""
