"""The delegation supervisor: a packet becomes a run, a run becomes proof.

`packet.py` the task as data · `folder.py` what one run leaves on disk · `evidence.py` what we observed
ourselves · `claims.py` what the worker says it did · `run.py` one attempt from snapshot to result ·
`runner.py` the detached process that carries a run out · `launch.py` how a run is started and followed.
"""
