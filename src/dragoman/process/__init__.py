"""Processes: who they are, how they are started, locked out and ended. Knows nothing of agents or git.

What only Linux has, and what stands in for it elsewhere (each is chosen by a `platform` or a `table` that is
passed in, or by what the running Python offers, so that tests choose too):

| Linux | elsewhere | in |
| --- | --- | --- |
| `/proc` | psutil | `table` |
| start time in clock ticks | start time in microseconds | `table` |
| a pidfd between check and signal | check, then signal at once | `identity` |
| orphans come to the subreaper | orphans are found by their marker | `prctl`, `tree` |
| not dumpable: no ptrace, no environ, no core | no core file | `prctl` |

Sessions, process groups, `flock` and inherited descriptors are the same on both.
"""
