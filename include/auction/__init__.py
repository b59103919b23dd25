"""The energy auction: results, orders, their outcomes, alerts."""
