"""`python -m cipherlens`: the command line."""

from cipherlens.cli.main import run

if __name__ == "__main__":
    run()
