"""The supervisor: the one process that everything else on this machine is a child of.

It opens the listening sockets, starts the server and the gateway again when they die, keeps a warm zygote per
(organization, environment), starts instances from them, keeps their logs, and renews the leases of those that live.
It decides nothing: the gateway says which instances should exist, the server what they may know.
"""
