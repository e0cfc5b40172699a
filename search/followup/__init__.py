"""What is done with a finished study: confirm, audit, merge."""
