"""How Codex and Claude Code are found, configured and launched. Knows nothing of jobs."""
