"""For all tests, and the processes that they start."""

import os


os.environ["HFTL_RAISE_BUGS"] = "1"  # what is caught so that no run is lost to it is raised here
