"""From run folders to report.json and a page; knows no algorithm but the colours of their arms."""
