"""The HTML page of one run, its tables and media, and its evaluations as CSV."""
