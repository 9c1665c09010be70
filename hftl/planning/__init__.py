"""`hftl plan`: what a run would do, need and take, and which method fits, before anything is trained."""
