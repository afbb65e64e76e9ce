"""The Responses protocol: what Codex speaks."""
