"""`python -m diffir_cli` is `diffir`."""

from diffir_cli.cli import main

if __name__ == "__main__":
    main()
