"""The tools a lead calls: declared once, listed by a shim that costs nothing, answered in control.

`declarations.py` says what the tools are · `tools.json` is that as data, for the shim · `shim.py` is the
standard-library stdio server a client starts · `line.py` is its connection to the daemon.
"""
