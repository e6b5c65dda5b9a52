"""`python -m llavamed_cli`, so that `accelerate launch -m llavamed_cli align ...` works."""

from llavamed_cli.cli.app import run

if __name__ == "__main__":
    run()
