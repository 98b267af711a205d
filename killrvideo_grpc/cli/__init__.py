"""The commands of `killrvideo-grpc`, a file each."""
