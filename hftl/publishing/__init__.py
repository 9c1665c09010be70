"""From trained weights to artifacts that plain transformers loads."""
