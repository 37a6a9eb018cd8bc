"""What runs wrote, read with distrust: cells, curves, pretrainings, adaptations, settings."""
