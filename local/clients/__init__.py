"""Clients of the running stack: for the demo, the tests and the benchmarks."""
