"""Signatures and help texts of the verbs; light to import."""
