"""What an option of the edge adds to its configuration."""

from collections.abc import Sequence
from dataclasses import dataclass

from killrvideo_grpc.edge.envoy_api import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Additions:
    """Further items of lists in envoy.yaml, and Lua that is appended to edge.lua."""

    routes: Sequence[Json] = ()  # between the contract's and the edge's own
    request_mutations: Sequence[Json] = ()  # before anything reads the headers
    filters: Sequence[Json] = ()  # after edge.lua
    clusters: Sequence[Json] = ()
    cors_methods: Sequence[str] = ()
    lua: str = ""
