"""The command line: a client of the HTTP API, and the one who starts and stops the platform on this machine.

It starts fast because people type it: standard library and click only, each command imported when it is used. It
knows nothing of the server's insides; the exceptions say so where they are (`backup.restore`, `manifest.schema`).
"""
