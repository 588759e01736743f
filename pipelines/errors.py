"""What can be wrong with data or with a machine, each as one sentence that a command can print."""


class DataError(Exception):
    """The images are missing, broken or out of reach. Commands print the sentence and exit with 1."""


class RequestError(DataError, ValueError):
    """The images that were asked for do not exist. Commands print the sentence and exit with 2."""


class UsageError(Exception):
    """What was asked for can't be done as asked. Commands print the sentence and exit with 2."""


class MachineError(Exception):
    """The machine, or another program on it, does not allow it. Commands print the sentence and exit with 1."""


class LibraryError(ImportError):
    """TensorFlow or Keras can't be loaded. Commands print the sentence and exit with 1."""
