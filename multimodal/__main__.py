"""The console script, and `python -m multimodal`."""

from multimodal.cli import early

early.catch()

import os  # noqa: E402
import sys  # noqa: E402

from multimodal.cli.interrupt import run  # noqa: E402


def main() -> None:
    """Runs the command line. It is imported here, where Ctrl-C is already caught."""

    # Nobody at a terminal can act on a deprecation inside transformers; its own variable brings the messages back.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

    def command() -> None:
        from multimodal.cli.root import single_app

        single = single_app(sys.argv[1:])
        if single is not None:
            single()
            return
        from multimodal.cli.main import app

        app()

    run(command)


if __name__ == "__main__":
    main()
