"""Sensors that hold no worker while they wait."""
