"""From a `Plan` to trained weights: features, caches, stages."""
