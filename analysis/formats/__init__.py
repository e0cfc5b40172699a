"""File formats of tables and figures."""
