"""Connections turned into the clients of ``include``, late and with errors that name the field to fix.

They raise the errors of :mod:`airflow_ext.settings`. ``https_only`` is False in the local environment alone.
"""
