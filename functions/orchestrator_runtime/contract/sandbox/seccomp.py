"""Which system calls a sandboxed program may make: all but those that no agent needs and exploits start with.

`program` assembles the filter and is pure; `install` gives it to the kernel. A forbidden call fails with EPERM as it
would without privileges, `clone3` with ENOSYS, so that the C library uses `clone`, whose flags a filter can read.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from orchestrator_runtime.contract.sandbox import kernel

X86_64, AARCH64 = "x86_64", "aarch64"

# Number on x86_64, number on aarch64; None where the machine does not have the call.
FORBIDDEN: Mapping[str, tuple[int | None, int | None]] = {
    # file systems and roots
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "open_tree_attr": (467, 467),
    "mount_setattr": (442, 442),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "fanotify_init": (300, 262),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "lookup_dcookie": (212, 18),
    "sysfs": (139, None),
    "ustat": (136, None),
    # other processes
    "setns": (308, 268),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # the kernel itself
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "create_module": (174, None),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "syslog": (103, 116),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "vhangup": (153, 58),
    "nfsservctl": (180, 42),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "uselib": (134, None),
    "_sysctl": (156, None),
    # memory that belongs to no process, which a watchdog could not see
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
}
# What a zygote needs to isolate an instance, and nothing else may do.
ISOLATING: Mapping[str, tuple[int, int]] = {
    "mount": (165, 40),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "unshare": (272, 97),
    "sched_setaffinity": (203, 122),  # holds a program to its processors where no control group does
}

_CLONE, _CLONE3, _SOCKET, _IOCTL = (56, 220), (435, 435), (41, 198), (16, 29)
_NAMESPACES = 0x7E020080  # every CLONE_NEW… flag that clone takes
_FAMILIES = (1, 2, 10, 16)  # unix, inet, inet6, netlink; above all not vsock, which no namespace confines
_TERMINAL_INPUT = (0x5412, 0x541C)  # TIOCSTI and TIOCLINUX type for whoever owns the terminal

_ARCHITECTURE = {X86_64: 0xC000003E, AARCH64: 0xC00000B7}
_X32 = 0x40000000

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCH, _FIRST_ARGUMENT, _SECOND_ARGUMENT = 0, 4, 16, 24  # offsets in seccomp_data, low halves
ALLOW, KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2


@dataclass(frozen=True, slots=True)
class Instruction:
    """One classic BPF instruction; the jumps count instructions to skip."""

    code: int
    jump_true: int
    jump_false: int
    value: int

    def encoded(self) -> bytes:
        return struct.pack("HBBI", self.code, self.jump_true, self.jump_false, self.value)


def program(machine: str, *, isolating: bool = False) -> list[Instruction]:
    """The filter for `machine`; with `isolating` the one of a zygote. Raises `KeyError` for an unknown machine."""
    column = (X86_64, AARCH64).index(machine)
    denied = [numbers[column] for numbers in FORBIDDEN.values()]
    if not isolating:
        denied += [numbers[column] for numbers in ISOLATING.values()]
    refuse = _answer(errno.EPERM)
    return [
        Instruction(_LOAD, 0, 0, _ARCH),
        Instruction(_EQUAL, 1, 0, _ARCHITECTURE[machine]),
        Instruction(_RETURN, 0, 0, KILL),
        Instruction(_LOAD, 0, 0, _NUMBER),
        *([Instruction(_AT_LEAST, 0, 1, _X32), Instruction(_RETURN, 0, 0, KILL)] if machine == X86_64 else []),
        *(line for number in denied if number is not None for line in (_when(number), refuse)),
        _when(_CLONE3[column]),
        _answer(errno.ENOSYS),
        *([] if isolating else _when_argument(_CLONE[column], _FIRST_ARGUMENT, _refuse_bits(_NAMESPACES))),
        *_when_argument(_SOCKET[column], _FIRST_ARGUMENT, _refuse_unless(_FAMILIES)),
        *_when_argument(_IOCTL[column], _SECOND_ARGUMENT, _refuse_values(_TERMINAL_INPUT)),
        Instruction(_RETURN, 0, 0, ALLOW),
    ]


def _answer(error: int) -> Instruction:
    return Instruction(_RETURN, 0, 0, _ERROR | error)


def _when(value: int) -> Instruction:
    """Do the next instruction only if the loaded word is `value`."""
    return Instruction(_EQUAL, 0, 1, value)


def _when_argument(number: int, offset: int, body: list[Instruction]) -> list[Instruction]:
    """Check one argument of one call with `body`, then allow it."""
    inside = [Instruction(_LOAD, 0, 0, offset), *body, Instruction(_RETURN, 0, 0, ALLOW)]
    return [Instruction(_EQUAL, 0, len(inside), number), *inside]


def _refuse_bits(bits: int) -> list[Instruction]:
    return [Instruction(_ANY_BIT, 0, 1, bits), _answer(errno.EPERM)]


def _refuse_values(values: Iterable[int]) -> list[Instruction]:
    return [line for value in values for line in (_when(value), _answer(errno.EPERM))]


def _refuse_unless(values: Iterable[int]) -> list[Instruction]:
    allowed = [line for value in values for line in (_when(value), Instruction(_RETURN, 0, 0, ALLOW))]
    return [*allowed, _answer(errno.EAFNOSUPPORT)]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


@functools.cache
def assembled(machine: str, *, isolating: bool = False) -> bytes:
    """`program` as the kernel takes it. A zygote calls it once for all its instances."""
    return b"".join(instruction.encoded() for instruction in program(machine, isolating=isolating))


def install(*, isolating: bool = False) -> None:
    """Filter this process and everything it starts, for good. Needs `forbid_new_privileges` first."""
    code = assembled(kernel.MACHINE, isolating=isolating)
    filter_program = _Program(len(code) // 8, code)
    kernel.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(filter_program))
