"""One run of a study from the command line: start or resume, progress, signals, dry runs."""
