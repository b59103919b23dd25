"""Clients of the outside world: HTTP APIs and AWS services."""
