"""`python -m hftl`, hence `accelerate launch -m hftl train ...`."""

from hftl.cli import main


main()
