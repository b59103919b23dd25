"""What the page shows: one module a view, each with a ``router``."""
