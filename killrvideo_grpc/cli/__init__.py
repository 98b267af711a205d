"""The commands of `killrvideo-grpc`, except `edge`, which is in `edge/commands.py`."""
