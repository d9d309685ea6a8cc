"""`python -m toylab` is the command `toylab`."""

from toylab.cli import entry

if __name__ == "__main__":
    entry()
