"""``python -m congruence`` is the command line."""

from congruence.cli import main

if __name__ == "__main__":
    main()
