"""What a process may see and write, and how it reaches the gateway.

`level.py` which means of confinement the system has and which one is used · `confinement.py` what is to be
visible, as data · `toolchain.py` where the user's programs and what they need lie · `secrets.py` what is
never visible · `bubblewrap.py` and `landlock_plan.py` the same confinement by two means · `landlock.py` what
runs inside the second.

Of two means the stronger one is taken, and what the taken one cannot do is part of every result.
"""
