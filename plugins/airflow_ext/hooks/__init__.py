"""Connections turned into the clients of ``include``, late and with errors that name the field to fix."""
