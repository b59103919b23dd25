"""The orders API's request authorizer: a signed token decides who may call (spec: orders_api, Authorizer)."""
