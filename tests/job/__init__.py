"""`hftl job`: what is written for each engine, what the script does, and the engines themselves where they are installed."""
