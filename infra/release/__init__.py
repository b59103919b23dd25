"""What brings a release to AWS: the bundle for MWAA, the checks before an update, the deployment."""
