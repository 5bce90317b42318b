"""The one exception a user is meant to read."""


class BenchError(Exception):
    """Bad input or a broken surrounding, told in one sentence.

    The message names the file or key, what was found, what was needed and, where there is one, the
    next step. The command line prints it without a traceback and exits with status 2.
    """
