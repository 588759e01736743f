"""What can be wrong with data, each as one sentence that a command can print."""


class DataError(Exception):
    """The images are missing, broken or out of reach. Commands print the sentence and exit with 1."""


class RequestError(DataError, ValueError):
    """The images that were asked for do not exist. Commands print the sentence and exit with 2."""
