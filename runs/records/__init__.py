"""Subjects, jobs, records and measurements as plain values."""
