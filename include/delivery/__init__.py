"""Event delivery: stored events reach their owners' webhooks, in order, at least once, or end as failed."""
