"""From trained weights to artifacts that plain transformers loads, and to the Hub. `hub.push` is the flow."""
