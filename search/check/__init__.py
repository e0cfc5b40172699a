"""What a study will do and cost, reported before it runs."""
