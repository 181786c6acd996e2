"""Has the kernel refuse a system call to this process, as an older or a full one would.

A seccomp filter answers with an error number instead of making the call. It can't be taken away
again. Linux on x86-64 and AArch64.
"""

import ctypes
import errno
import platform

NUMBERS = {
    "x86_64": {"mmap": 9, "madvise": 28, "clone": 56, "vfork": 58, "clone3": 435},
    "aarch64": {"mmap": 222, "madvise": 233, "clone": 220, "clone3": 435},
}

MADV_DONTNEED = 4
MADV_GUARD_INSTALL = 102

PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
PR_SET_NO_NEW_PRIVS = 38

LOAD, JUMP_IF_EQUAL, JUMP_IF_AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
ALLOW, ERROR = 0x7FFF0000, 0x00050000
# Offsets in struct seccomp_data, of the low and the high half of an argument.
NUMBER, ARGUMENTS = 0, 16


class Instruction(ctypes.Structure):
    _fields_ = [
        ("code", ctypes.c_uint16),
        ("if_true", ctypes.c_uint8),
        ("if_false", ctypes.c_uint8),
        ("k", ctypes.c_uint32),
    ]


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_uint16), ("filter", ctypes.POINTER(Instruction))]


def available():
    return platform.system() == "Linux" and platform.machine() in NUMBERS


def refuse(call, error, argument=None, equal=None, at_least=None):
    """From now on `call` fails with `error`: always, or where one argument has such a value."""
    refusal = [(RETURN, 0, 0, ERROR | error)]
    if argument is not None:
        low, high = ARGUMENTS + 8 * argument, ARGUMENTS + 8 * argument + 4
        test, value = (JUMP_IF_EQUAL, equal) if at_least is None else (JUMP_IF_AT_LEAST, at_least)
        # A high half that is not 0 makes another value, and a larger one.
        if_high = 3 if at_least is None else 2
        refusal = [
            (LOAD, 0, 0, high),
            (JUMP_IF_EQUAL, 0, if_high, 0),
            (LOAD, 0, 0, low),
            (test, 0, 1, value),
            *refusal,
        ]
    program = [
        (LOAD, 0, 0, NUMBER),
        (JUMP_IF_EQUAL, 0, len(refusal), NUMBERS[platform.machine()][call]),
        *refusal,
        (RETURN, 0, 0, ALLOW),
    ]

    instructions = (Instruction * len(program))(*program)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
    whole = Program(len(program), instructions)
    for arguments in (
        (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(whole), 0, 0),
    ):
        if libc.prctl(*arguments) != 0:
            raise OSError(ctypes.get_errno(), "the kernel takes no seccomp filter")


def no_guard_install():
    """As before Linux 6.13."""
    refuse("madvise", errno.EINVAL, argument=2, equal=MADV_GUARD_INSTALL)


def no_mapping_of(size):
    """As with vm.overcommit_memory=2, when `size` bytes are more than what may be committed."""
    refuse("mmap", errno.ENOMEM, argument=1, at_least=size)


def no_threads():
    """As at RLIMIT_NPROC, which root is exempt from. Processes are threads to the kernel."""
    for call in NUMBERS[platform.machine()].keys() & {"clone", "clone3", "vfork"}:
        refuse(call, errno.EAGAIN)
