"""`killrvideo-grpc` with one request per look-up by user id: what joined look-ups are compared with.

There is no setting for this, since nobody should want it. So before anything starts, this says that one key fills a
request, and lets as many requests be under way as there are callers.
"""

from killrvideo_grpc.__main__ import main
from killrvideo_grpc.stores import data_api, joined_reads

joined_reads.MAX_KEYS = 1
joined_reads.UNDER_WAY = 64
data_api.MAX_REQUESTS = 64

if __name__ == "__main__":
    main(prog_name="killrvideo-grpc")
