"""The energy auction: results, orders, what became of each, and who is told."""
