"""The bridge: one long-lived interactive Claude Code, driven round by round without guessing."""
