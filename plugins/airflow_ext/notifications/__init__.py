"""Telling people: SNS and Slack, each independent of the other."""
