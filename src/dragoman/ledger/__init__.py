"""The ledger: tokens and money by key, client, session, run and model.

`tables.py` what is kept · `reading.py` whole lines of the gateways' spool · `intake.py` from the spool into
the tables, each row once · `summary.py` adding up · `tariffs.py` what the gateways multiply with ·
`retention.py` old rows folded into daily sums.
"""
