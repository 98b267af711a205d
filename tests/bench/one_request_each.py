"""Runs `killrvideo-grpc` with one request per look-up by user id, for comparison with joined look-ups.

There is no setting for this, because nobody should need it. So this patches constants before anything starts: one key
fills a request, and as many requests as there are callers may be in progress.
"""

from killrvideo_grpc.__main__ import main
from killrvideo_grpc.stores.data_api import batch_loader, client, concurrency_limit

batch_loader.MAX_KEYS = 1
concurrency_limit.MIN = concurrency_limit.MAX = 64
client.MAX_REQUESTS = 64

if __name__ == "__main__":
    main(prog_name="killrvideo-grpc")
