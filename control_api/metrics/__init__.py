"""Metrics for Prometheus: the API's own, those of runs and steps, and the gateway's, in one answer."""
