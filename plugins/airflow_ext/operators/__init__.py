"""Operators that call AWS with typed errors."""
