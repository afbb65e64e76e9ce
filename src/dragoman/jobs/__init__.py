"""The delegation supervisor: a packet becomes a run, a run becomes proof.

`packet.py` the task as data · `folder.py` what one run leaves on disk · `evidence.py` what we observed
ourselves · `claims.py` what the worker says it did · `run.py` one attempt from snapshot to result ·
`runner.py` `carrying.py` the detached process that carries a run out · `inheritance.py` what it is handed ·
`endings.py` how it ends with a result · `launch.py` how a run is started and followed.

Jobs: `request.py` what is asked · `request_key.py` when two are the same · `admission.py` who may start ·
`table.py` the rows · `states.py` `view.py` `polling.py` what is told of them · `reconcile.py` what a run
folder says · `oversight.py` rows kept true to folders · `service.py` all that can be asked · `launching.py`
from a job to a runner · `engine.py` DBOS · `janitor.py` order at start-up · `run_logs.py` runs
as they are shown.
"""
