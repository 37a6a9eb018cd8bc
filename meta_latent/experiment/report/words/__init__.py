"""What a report says in words: numbers as text, its first sentence, summaries, tasks and warnings."""
