"""The Space: its app with nothing of hftl around it, its folder, and its way to the Hub."""
