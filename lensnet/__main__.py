"""`python -m lensnet` is `lensnet`."""

from lensnet.cli import main

if __name__ == "__main__":
    main()
