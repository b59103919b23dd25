"""``make chaos``: load on all pipelines together, faults at random, and a reconciliation of everything at the end."""
