"""``python -m ops``: what happened and what to do, from a shell (spec: operations, Command line)."""
