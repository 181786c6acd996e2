import concurrent.futures


class PoolFull(RuntimeError):
    pass


class ThreadPool(concurrent.futures.ThreadPoolExecutor):
    def start(self, work):
        self.submit(work)


_d = None


def default_pool():
    global _d
    if _d is None:
        _d = ThreadPool(200)
    return _d
