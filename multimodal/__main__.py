"""The console script, and `python -m multimodal`."""

from multimodal.cli.interrupt import run


def main() -> None:
    """Runs the command line. It is imported here, where Ctrl-C is already caught."""

    def command() -> None:
        from multimodal.cli.main import app

        app()

    run(command)


if __name__ == "__main__":
    main()
