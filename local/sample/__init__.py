"""Sample data for the local stack: clients, files of call details, a month of the archive."""
