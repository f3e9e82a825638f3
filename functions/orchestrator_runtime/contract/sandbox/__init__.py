"""Linux's means of isolation, as the sandbox's launcher and a forked instance need them.

Part of the contract because both sides use them: `local.sandbox.launch` before a program starts, `zygote` in an
instance that was forked and never starts a program. Standard library only; every failed call raises `OSError`.
What a sandbox contains is decided elsewhere.
"""
