"""The gateway: the one TCP port. It authenticates, routes, queues, activates, scales and forwards; it runs no user code."""
