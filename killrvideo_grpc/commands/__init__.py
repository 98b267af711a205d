"""The commands of `killrvideo-grpc`, but for those of the edge, which are its own."""
