"""Measures, their intervals and tests."""
