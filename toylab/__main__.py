"""`python -m toylab` is the command `toylab`."""

import sys

from toylab.cli import main

if __name__ == "__main__":
    sys.exit(main())
