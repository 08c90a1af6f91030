"""Measurements: against planted truth, against the limit, against ourselves. Each is a script or a package to run."""
