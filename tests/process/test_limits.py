from __future__ import annotations

import subprocess
import sys


def test_the_soft_limit_on_open_files_is_raised_to_what_is_wanted_or_allowed():
    source = (
        "import resource; from dragoman.process.limits import raise_open_files_limit as up;"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, 300)); print(up(200), up(150), up(1000))"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["200", "200", "300"], done.stderr
