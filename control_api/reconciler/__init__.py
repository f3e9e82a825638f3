"""Makes desired state true: `plan` is pure and says what to do next, `reconciler` does it and records the outcome."""
