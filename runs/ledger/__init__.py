"""The SQLite file in which a study keeps its records."""
