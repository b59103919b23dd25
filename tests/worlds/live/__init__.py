"""A running stack, seen from outside, as any script could: what the end-to-end and browser tests look at."""
