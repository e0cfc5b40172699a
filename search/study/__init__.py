"""Study files: schema, validation and amendments."""
