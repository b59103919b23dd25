"""What runs on AWS Lambda; one package per function or group of functions."""
