"""The order of the interceptors is checked when the chain is built."""

from typing import ClassVar

import pytest

from killrvideo_grpc.rpc.call import Call, CallNext
from killrvideo_grpc.rpc.interceptors.chain import Handler, InterceptorChain


class First:
    runs_after: ClassVar[tuple[type, ...]] = ()

    def wrap(self, method: str, handler: Handler, call_next: CallNext) -> CallNext:
        return call_next


class Second(First):
    runs_after: ClassVar[tuple[type, ...]] = (First,)


def test_an_interceptor_before_one_that_it_must_run_after_is_an_error() -> None:
    with pytest.raises(ValueError, match="Second must run after First"):
        InterceptorChain([Second()], [First()])


def test_an_interceptor_that_the_other_needs_may_be_absent() -> None:
    InterceptorChain([Second()])
    InterceptorChain([First()], [Second()])


def test_the_repr_of_a_call_has_no_token_and_no_message() -> None:
    call = Call((("authorization", "Bearer planted"),), request_id="r-1")
    call.context, call.message, call.request = None, b"planted", {"password": "planted"}  # type: ignore[assignment]
    assert "planted" not in repr(call)
    assert "r-1" in repr(call)
