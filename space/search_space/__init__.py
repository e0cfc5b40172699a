"""Search spaces: validation, sampling, size and feasibility."""
