"""One database handle for the control process and the runner's kin: SQLite (WAL) or PostgreSQL.

`address.py` says which database · `database.py` opens it and hands out connections · `migrations.py` brings
each room's tables up to date. What the rows mean belongs to the rooms that own them.
"""
