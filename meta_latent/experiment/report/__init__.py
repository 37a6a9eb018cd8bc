"""From run folders to report.json and a page; knows no algorithm."""
