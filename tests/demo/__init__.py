"""The demo: explanations, checks of what comes in, and the page itself."""
