"""Source data, the stages of pretraining, and the model folder that comes out."""
