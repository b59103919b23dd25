"""The checks of the preflight, a module for each family: functions from a project to findings."""
