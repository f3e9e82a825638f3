"""The way into the kernel: libc through ctypes, with `errno` as `OSError`.

The library is opened so that calls keep the interpreter's lock: they are short, and after a raw `clone` there must be
no lock to take again.
"""

from __future__ import annotations

import ctypes
import os
import platform

MACHINE = platform.machine()

_libc = ctypes.PyDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def checked(result: int, what: str) -> int:
    """`result`, unless it says that the call failed."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{os.strerror(number)} ({what})")
    return result


def syscall(number: int, *arguments: object, what: str) -> int:
    wide = (ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments)
    return checked(int(_libc.syscall(ctypes.c_long(number), *wide)), what)


def prctl(option: int, first: int = 0, second: object = 0) -> int:
    """Raises `OSError` as all of them do."""
    unused = ctypes.c_ulong(0)
    last = ctypes.c_ulong(second) if isinstance(second, int) else second
    return checked(_libc.prctl(option, ctypes.c_ulong(first), last, unused, unused), f"prctl {option}")


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    result = _libc.mount(
        os.fsencode(source), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), os.fsencode(options)
    )
    checked(result, f"mount {kind} at {target}")


def umount(target: str, flags: int) -> None:
    checked(_libc.umount2(os.fsencode(target), flags), f"umount {target}")


def unshare(flags: int) -> None:
    checked(_libc.unshare(flags), f"unshare {flags:#x}")


def setns(descriptor: int, flags: int) -> None:
    """Go where a process is (by its descriptor), or into a namespace that is open. Holds for this thread only."""
    checked(_libc.setns(descriptor, flags), f"setns {flags:#x}")


def malloc_trim() -> None:
    """Give free memory back to the kernel; a C library without it keeps it."""
    trim = getattr(_libc, "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))
