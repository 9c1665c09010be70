"""Every mistake is answered by a short message that names cause and mend, exit code 2, and nothing left behind."""
