"""`python -m multimodal`: the command line without the `multimodal` script on the path."""

from multimodal.cli.main import main

if __name__ == "__main__":
    main()
