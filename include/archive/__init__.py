"""The daily archive of DEX trigger responses: dates, keys, answers, plan, store, outcomes, manifest."""
