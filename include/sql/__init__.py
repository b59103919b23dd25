"""SQL, one query a file."""
