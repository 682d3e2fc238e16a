"""System-call filters of Linux: what a process of ours, once told so, can never do again.

`deny_network()` is for the processes that run models: a socket that is not of this machine
(anything but AF_UNIX and AF_NETLINK) cannot be made, whatever library tries, in Python or not.
`deny_all_but_reading()` is for the processes that read hostile files: no socket at all, no other
program, no process, no change to any file, no look into or signal to another process.

Both hold for all threads, pass on to children, and cannot be taken back. They refuse with an error
number, so that a library which merely tries goes on. The filter is classic BPF over `struct
seccomp_data` (linux/seccomp.h), written by hand because libseccomp is not on every machine.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Callable, Sequence

from docqa.system_calls import ARCHITECTURES, numbers

# linux/bpf_common.h, linux/seccomp.h, linux/prctl.h
_LD_ABS, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06
_AT_NUMBER, _AT_ARCHITECTURE, _AT_ARGUMENTS = 0, 4, 16
_KILL, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_PR_SET_NO_NEW_PRIVS, _SECCOMP_SET_MODE_FILTER, _FILTER_FLAG_TSYNC = 38, 1, 1
_X32 = 0x40000000  # the other numbering that an x86-64 kernel may take
_AF_UNIX, _AF_NETLINK = 1, 16
_CLONE_THREAD = 0x00010000
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, operand
_Numbers = dict[str, dict[str, int]]  # group → name → number
_Rules = Callable[[_Numbers], list[Instruction]]


def deny_network() -> str:
    """Refuse every socket that is not of this machine, from now on and in all children.

    Returns: why that is impossible here; empty where it holds.
    """
    return _install(_network_rules)


def deny_network_or_die() -> str:
    """Refuse the same by ending the process (SIGSYS): for the proof where nothing can trace."""
    return _install(lambda calls: _network_rules(calls, _KILL))


def deny_all_but_reading() -> str:
    """Leave this process no more than reading files, computing, and writing to what is open.

    Returns: why that is impossible here; empty where it holds.
    """
    return _install(_reading_rules)


def _install(rules: _Rules) -> str:
    if not sys.platform.startswith("linux"):
        return f"{platform.system()} has no system-call filter of this kind"
    machine = platform.machine()
    if machine not in ARCHITECTURES or sys.byteorder != "little" or struct.calcsize("P") != 8:
        return f"no system-call filter is written for {machine}"
    calls = numbers(machine)
    program = _program(rules(calls), ARCHITECTURES[machine], machine == "x86_64")
    return _load(program, calls["single"]["seccomp"])


def _program(
    rules: Sequence[Instruction], architecture: int, has_x32: bool
) -> Sequence[Instruction]:
    """Return the whole filter: the architecture is checked first, whatever has no rule passes."""
    head: list[Instruction] = [
        (_LD_ABS, 0, 0, _AT_ARCHITECTURE),
        (_JEQ, 1, 0, architecture),
        (_RET, 0, 0, _KILL),
        (_LD_ABS, 0, 0, _AT_NUMBER),
    ]
    if has_x32:
        head += [(_JGE, 0, 1, _X32), (_RET, 0, 0, _ERRNO | errno.EPERM)]
    return [*head, *rules, (_RET, 0, 0, _ALLOW)]


def _refused(number: int, error: int) -> list[Instruction]:
    return [(_JEQ, 0, 1, number), (_RET, 0, 0, _ERRNO | error)]


def _argument(number: int, index: int, test: Sequence[Instruction]) -> list[Instruction]:
    """Return a block that looks at the low half of an argument; `test` returns in every case."""
    return [
        (_JEQ, 0, len(test) + 1, number),
        (_LD_ABS, 0, 0, _AT_ARGUMENTS + 8 * index),
        *test,
    ]


def _network_rules(calls: _Numbers, action: int = _ERRNO | errno.EACCES) -> list[Instruction]:
    is_local: list[Instruction] = [
        (_JEQ, 2, 0, _AF_UNIX),
        (_JEQ, 1, 0, _AF_NETLINK),
        (_RET, 0, 0, action),
        (_RET, 0, 0, _ALLOW),
    ]
    # io_uring makes and connects sockets without the calls that are looked at here.
    ring = _refused(calls["ring"]["io_uring_setup"], errno.ENOSYS)
    return [*_argument(calls["network"]["socket"], 0, is_local), *ring]


def _reading_rules(calls: _Numbers) -> list[Instruction]:
    rules: list[Instruction] = []
    for group, error in (
        ("network", errno.EACCES),
        ("process", errno.EPERM),
        ("files", errno.EPERM),
        ("system", errno.EPERM),
        ("ring", errno.ENOSYS),
    ):
        for number in calls[group].values():
            rules += _refused(number, error)
    single = calls["single"]
    # Their arguments stand in memory, where a filter cannot look. libc falls back on the old ones.
    rules += _refused(single["clone3"], errno.ENOSYS) + _refused(single["openat2"], errno.ENOSYS)
    for name, index in (("open", 1), ("openat", 2)):
        if name in single:
            rules += _argument(single[name], index, _only_without(_WRITES))
    rules += _argument(single["clone"], 0, _only_with(_CLONE_THREAD))
    rules += _argument(single["tgkill"], 0, _only_equal(os.getpid()))  # abort() is its own
    rules += _argument(single["prlimit64"], 2, _only_equal(0))  # limits may be read, not set
    return rules


def _only_without(flags: int) -> list[Instruction]:
    return [(_JSET, 0, 1, flags), (_RET, 0, 0, _ERRNO | errno.EPERM), (_RET, 0, 0, _ALLOW)]


def _only_with(flags: int) -> list[Instruction]:
    return [(_JSET, 1, 0, flags), (_RET, 0, 0, _ERRNO | errno.EPERM), (_RET, 0, 0, _ALLOW)]


def _only_equal(value: int) -> list[Instruction]:
    return [(_JEQ, 1, 0, value), (_RET, 0, 0, _ERRNO | errno.EPERM), (_RET, 0, 0, _ALLOW)]


def _load(program: Sequence[Instruction], seccomp: int) -> str:
    """Give the program to the kernel, for all threads of this process."""
    code = b"".join(struct.pack("<HBBI", *instruction) for instruction in program)
    held = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("<H6xQ", len(program), ctypes.addressof(held))  # struct sock_fprog
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return f"prctl: {os.strerror(ctypes.get_errno())}"
    done = libc.syscall(
        ctypes.c_long(seccomp),
        ctypes.c_ulong(_SECCOMP_SET_MODE_FILTER),
        ctypes.c_ulong(_FILTER_FLAG_TSYNC),
        ctypes.c_char_p(header),
    )
    return "" if done == 0 else f"the kernel refuses: {os.strerror(ctypes.get_errno())}"
