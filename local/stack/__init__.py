"""The local stack as a whole: start, control, description."""
