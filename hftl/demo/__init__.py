"""A page that lets anyone try a trained model, and shows why it answers as it does."""
