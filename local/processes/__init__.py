"""Processes of the local stack: started, watched, stopped."""
