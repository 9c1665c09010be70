"""`hftl ui`: a page to train in, and a page of runs. All but `app.py` and its kin work without Gradio."""
