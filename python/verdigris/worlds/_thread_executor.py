import concurrent.futures
import enum


class ExitOption(enum.Enum):
    ABANDON = 1


class ThreadExecutor(concurrent.futures.Executor):
    pass
