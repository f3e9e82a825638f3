"""`python -m tests.fakes.instance_program LISTEN CONTROL JOURNAL`: an instance without a sandbox around it.

Does what `orchestrator_runtime.instance` does after isolating itself: the start comes on standard input, the agent's
folder is the working directory, and the process ends without waiting for anything of the agent's.
"""

from __future__ import annotations

import os
import socket
import sys
import traceback

from orchestrator_runtime import server
from orchestrator_runtime.contract.instance import InstanceStart


def main() -> None:
    listen, control = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    start = InstanceStart.from_json(sys.stdin.buffer.read())
    os.environ.update(start.env)
    os.environ.update(start.secrets)
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - as a string, as the instance does
    code = 0
    try:
        server.serve(start, listen=listen, control=control, journal=sys.argv[3])
    except SystemExit as error:
        code = int(error.code or 0)
    except BaseException:  # noqa: BLE001 - a process border
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    if "COVERAGE_PROCESS_START" in os.environ or "COVERAGE_PROCESS_CONFIG" in os.environ:
        sys.exit(code)  # what was covered is written at the end of the interpreter
    os._exit(code)


if __name__ == "__main__":
    main()
