"""The demo: runs every pipeline once on a live stack and reads back what came of it."""
