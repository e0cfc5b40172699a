"""Study files: the YAML, its sections and their validation."""
