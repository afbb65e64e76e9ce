"""The ledger: tokens by key, client, session, run and model.

`reading.py` takes rows out of the gateways' spool · `summary.py` adds them up.
"""
