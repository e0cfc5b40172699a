"""Follow-up work on a finished study: confirm, audit, merge."""
