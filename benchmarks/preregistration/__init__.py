"""Predictions filed before the seal is opened, and rivals that are kept, against planted truth."""
