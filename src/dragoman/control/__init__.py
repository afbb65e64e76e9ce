"""The control API behind console, command line and MCP. It may be asleep; no model stream depends on it."""
