"""What an experiment is: schema, strict loading, bound tasks."""
