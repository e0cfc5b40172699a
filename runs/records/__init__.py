"""Values that describe a trial and what it yielded: subjects, jobs, records, measurements."""
