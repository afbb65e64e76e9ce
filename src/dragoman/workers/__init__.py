"""The agents that do the work, behind one interface: start, stream progress, stop, resume, result.

`base.py` what every worker is given and gives back · `claude.py` Claude Code, with `claude_rules.py` its
permissions, `claude_command.py` its command line, `claude_stream.py` the reading of its output and
`claude_outcome.py` the verdict on it · `codex.py` Codex, with `codex_config.py` and `codex_stream.py` ·
`drive.py` what both do alike · `child.py` the life and the sure end of any worker's process · `lines.py` and
`loose.py` bounded and tolerant reading · `testing.py` a fake Claude Code for tests.
"""
