"""What the control plane and an instance agree on: states, journal protocol, instance configuration, errors.

Standard library only. The control plane imports this package and nothing else of the runtime.
"""
