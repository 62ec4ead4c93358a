"""`python -m lipsound2` is the same as `lipsound2`."""

from lipsound2.cli import main

if __name__ == "__main__":
    main()
