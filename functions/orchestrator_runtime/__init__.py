"""The runtime that an agent's instance runs: see `server`, `zygote`, `journal` and `frameworks`."""
