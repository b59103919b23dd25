"""What several kinds of tests need, and benchmarks too."""
