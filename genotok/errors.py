"""The one exception that means: the user can mend this."""


class InputError(Exception):
    """Bad input, said in one sentence that names the file, line or record and what to do.

    The command line prints the sentence and exits with code 2; nothing has been half-written.
    """
