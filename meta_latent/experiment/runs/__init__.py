"""Run folders and what is in them; running cells side by side."""
