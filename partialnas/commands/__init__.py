"""What the verbs do and print."""
