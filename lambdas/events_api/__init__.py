"""The events API: takes events, keeps them, and hands them to the delivery (spec: events)."""
