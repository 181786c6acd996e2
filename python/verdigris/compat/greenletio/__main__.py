"""`python -m verdigris.compat.greenletio`: greenletio's command."""

from verdigris.compat.greenletio.cli import main

if __name__ == "__main__":
    main()
