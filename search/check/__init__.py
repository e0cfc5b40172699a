"""Report what a study will do and cost before it runs."""
