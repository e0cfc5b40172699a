"""Signatures of the command line's verbs. Light to import."""
