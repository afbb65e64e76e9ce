"""The embedded model: an ordinary provider on loopback that plays scenario files on all three wires.

It makes the demo, the tests and the benchmarks run with no key and no network. It runs in a small process of
its own (`python -m dragoman.rehearsal --scenario NAME`) and its bytes are templates of what the real services
send: it shares no code with the translator that it exercises, so the two cannot share a bug.

`docs/scenarios.md` describes the files; `load.py` reads them, `play.py` picks the rule, `speaking/` says it.
"""
