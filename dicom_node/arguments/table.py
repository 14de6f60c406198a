"""How a row of the command line is written: words, help, and the function that runs it."""

import argparse


def row(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", words: str, text: str, run: str
) -> argparse.ArgumentParser:
    """Add a subcommand.

    Parameters
    ----------
    commands
        What it is one of.
    words
        What is typed.
    text
        Its help, without a capital and a full stop.
    run
        ``module:function`` below ``dicom_node.commands``, imported when it is needed.
    """
    parser = commands.add_parser(words, help=text, description=text[0].upper() + text[1:] + ".")
    parser.set_defaults(run=run)
    return parser


def count(text: str) -> int:
    """Read a whole number of 1 or more.

    Raises
    ------
    argparse.ArgumentTypeError
        For any other number.
    """
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("1 or more")
    return number
