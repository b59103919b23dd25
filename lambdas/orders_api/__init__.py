"""The orders API: `POST /orders` takes records and keeps them for a day (spec: orders_api)."""
