"""The gateway, owner of the one TCP port: authenticates, routes, queues, activates, scales and forwards calls."""
