"""What the model is worth: metrics, intervals, baselines."""
