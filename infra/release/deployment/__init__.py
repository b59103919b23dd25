"""What `make deploy` is made of; see :mod:`infra.release.deploy`."""
