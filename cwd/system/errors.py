"""The one exception that users are meant to read."""


class CwdError(Exception):
    """A problem that the user can mend.

    The message is one sentence that names the file or field, says what was found and what was
    expected, and ends with the remedy. The command line prints it without a traceback.
    """
