"""`dragoman demo`: the main job on a fresh machine.

`stage.py` what the demo brings along (a home, a provider, repositories) and takes away again · `play.py` one
delegation from packet to applied change · `command.py` the command and its summary.
"""

from dragoman.cli.demo.command import demo

__all__ = ["demo"]
