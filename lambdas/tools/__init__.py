"""Command lines for whoever runs the functions; not part of any function."""
