"""Landlock: the weaker means, for systems on which bubblewrap does not work. Standard library alone.

Imported, it asks the kernel and plans a command line. Run as a script by a bare interpreter, it confines
itself and becomes the program:

    python -I -S landlock.py [--read P]… [--write P]… [--connect PORT] -- PROGRAM ARGUMENT…

What is not named is not readable. It cannot hide a file inside a folder that is open, and it knows neither
UDP nor other programs' unix sockets; `level.py` tells that in every result.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same numbers on every architecture
_GET_VERSION = 1
_RULE_PATH, _RULE_PORT = 1, 2
_PR_SET_NO_NEW_PRIVS, _PR_CAPBSET_DROP, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR = 38, 24, 47, 4
_CAPABILITY_VERSION, _CAPABILITIES = 0x20080522, 64

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_BASIC = (1 << 13) - 1
_MAKE_DEVICE = 1 << 6 | 1 << 11  # a block device of root's own making would be the disk itself
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_BIND_TCP, _CONNECT_TCP = 1, 2
_ABSTRACT_SOCKETS, _SIGNALS = 1, 2


def abi_version() -> int:
    """Version of the kernel's Landlock; 0 when there is none or it is switched off."""
    if sys.platform != "linux":
        return 0
    try:
        return _syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _GET_VERSION)
    except OSError:
        return 0


def confine(read: list[str], write: list[str], ports: list[int] | None) -> None:
    """Confine the calling process and all it will start, for good.

    Args:
        read: files and folders that may be read and executed; missing ones are left out.
        write: files and folders that may be written too.
        ports: TCP ports that may be connected to; None leaves the network as it is.

    Raises:
        OSError: the kernel refuses.
    """
    abi = _syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _GET_VERSION)
    files = _BASIC
    if abi >= 2:
        files |= _REFER
    if abi >= 3:
        files |= _TRUNCATE
    if abi >= 5:
        files |= _IOCTL_DEV
    network = _BIND_TCP | _CONNECT_TCP if abi >= 4 and ports is not None else 0
    scope = _ABSTRACT_SOCKETS | _SIGNALS if abi >= 6 else 0
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    attributes = struct.pack("QQQ", files, network, scope)[:size]
    rules = _syscall(_CREATE_RULESET, ctypes.c_char_p(attributes), ctypes.c_size_t(size), 0)
    for path in read:
        _open(rules, path, _READ & files)
    for path in write:
        _open(rules, path, files & ~_MAKE_DEVICE)
    if network:
        # To listen for tests of its own it may; to connect, to the gateway alone.
        for port in ports or []:
            rule = struct.pack("QQ", _CONNECT_TCP, port)
            _syscall(_ADD_RULE, rules, _RULE_PORT, ctypes.c_char_p(rule), 0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot give up new privileges")
    _syscall(_RESTRICT_SELF, rules, 0)
    os.close(rules)
    _give_up_capabilities(libc)


def _give_up_capabilities(libc: ctypes.CDLL) -> None:
    """Root without capabilities: Landlock knows no rule for a clock, a module or another's memory."""
    for number in range(_CAPABILITIES):
        libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)  # refused for an ordinary user, who has none
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR, 0, 0, 0)
    header = struct.pack("Ii", _CAPABILITY_VERSION, 0)
    if libc.capset(ctypes.c_char_p(header), ctypes.c_char_p(bytes(24))) != 0:
        raise OSError(ctypes.get_errno(), "cannot give up capabilities")


def _open(rules: int, path: str, access: int) -> None:
    try:
        target = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not os.path.isdir(path):  # noqa: PTH112 - a bare script
            access &= _OF_FILES
        rule = struct.pack("=Qi", access, target)
        _syscall(_ADD_RULE, rules, _RULE_PATH, ctypes.c_char_p(rule), 0)
    finally:
        os.close(target)


def _syscall(*arguments: object) -> int:
    answer = ctypes.CDLL(None, use_errno=True).syscall(*arguments)
    if answer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(answer)


def main(argv: list[str]) -> None:
    """Confine this process and become the program; returns only by raising."""
    read: list[str] = []
    write: list[str] = []
    ports: list[int] | None = []
    while argv and argv[0] != "--":
        word, value, *argv = argv
        match word:
            case "--read":
                read.append(value)
            case "--write":
                write.append(value)
            case "--connect":
                ports.append(int(value)) if ports is not None else None
            case "--network":
                ports = None
            case _:
                raise SystemExit(f"landlock.py: unknown word {word}")
    program = argv[1:]
    # Found before it gets dark: PATH may name folders that are closed from here on.
    path = _which(program[0])
    confine(read, write, ports)
    os.execv(path, program)  # noqa: S606 - this is what it is for


def _which(name: str) -> str:
    if os.sep in name:
        return name
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(folder, name)  # noqa: PTH118 - a bare script
        if os.access(path, os.X_OK) and not os.path.isdir(path):  # noqa: PTH112
            return path
    raise SystemExit(f"landlock.py: {name}: not found")


if __name__ == "__main__":
    main(sys.argv[1:])
