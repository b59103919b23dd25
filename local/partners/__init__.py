"""Stubs of the outside parties that the pipelines talk to; run, knobs and journal are described in `app`."""
