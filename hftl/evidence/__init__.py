"""What a run says of itself: was the transfer worth it, what did it forget, and how sure is that."""
