from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from dragoman.process.prctl import forbid_inspection, is_inspectable

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the protection exists on Linux alone")


def test_a_process_that_forbids_inspection_is_not_dumpable_and_leaves_no_core():
    source = (
        "import resource; from dragoman.process.prctl import forbid_inspection, is_inspectable;"
        "before = is_inspectable(); done = forbid_inspection();"
        "print(before, done, is_inspectable(), resource.getrlimit(resource.RLIMIT_CORE))"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "True True False (0, 0)", done.stderr


def test_elsewhere_only_core_files_are_forbidden():
    before = resource.getrlimit(resource.RLIMIT_CORE)
    try:
        assert forbid_inspection(platform="darwin") is False
        assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
        assert is_inspectable()
    finally:
        if before[1] == 0:
            resource.setrlimit(resource.RLIMIT_CORE, before)
