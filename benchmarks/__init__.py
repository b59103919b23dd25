"""What the pipelines cost, measured on the local stack beside a baseline in the same run: `make bench`."""
