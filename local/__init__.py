"""The local stack: the whole platform on one machine, without Docker and without an AWS account."""
