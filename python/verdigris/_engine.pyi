"""The native engine: stacks, switches, and the awaitable. Public names come from `verdigris`."""

from collections.abc import Awaitable, Callable, Coroutine, Generator
from types import CodeType, FrameType, GenericAlias, TracebackType
from typing import Any, Literal, ParamSpec, TypedDict, TypeVar, final, overload, type_check_only

_P = ParamSpec("_P")
_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)

class NoAwaitContext(RuntimeError): ...
class NoAwaitOccurred(RuntimeError): ...

@final
class GreenCoroutine(Coroutine[Any, Any, _T_co]):
    __name__: str
    __qualname__: str
    @property
    def cr_await(self) -> Any: ...
    @property
    def cr_code(self) -> CodeType | None: ...
    @property
    def cr_frame(self) -> FrameType | None: ...
    @property
    def cr_origin(self) -> tuple[tuple[str, int, str], ...] | None: ...
    @property
    def cr_running(self) -> bool: ...
    @property
    def cr_state(self) -> str:
        """What `inspect.getcoroutinestate` returns."""

    @property
    def cr_suspended(self) -> bool: ...
    def __await__(self) -> Generator[Any, Any, _T_co]: ...
    def __next__(self) -> Any: ...
    def send(self, value: Any, /) -> Any: ...
    @overload
    def throw(
        self,
        type: type[BaseException],
        value: BaseException | object = ...,
        traceback: TracebackType | None = ...,
        /,
    ) -> Any: ...
    @overload
    def throw(
        self, type: BaseException, value: None = ..., traceback: TracebackType | None = ..., /
    ) -> Any: ...
    def close(self) -> None: ...
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...

# A ParamSpec takes no keyword between its two halves, so the call with `assert_await_occurs` is an
# overload of its own, and its arguments are not checked against the function's.
@overload
def async_def(
    fn: Callable[..., _T], /, *args: Any, assert_await_occurs: bool, **kwargs: Any
) -> GreenCoroutine[_T]: ...
@overload
def async_def(
    fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs
) -> GreenCoroutine[_T]: ...
@overload
def await_(awaitable: Awaitable[_T], /) -> _T: ...
@overload
def await_(function: Callable[_P, Coroutine[Any, Any, _T]], /) -> Callable[_P, _T]: ...
def can_await() -> bool: ...

@type_check_only
class _Stats(TypedDict):
    stacks_in_use: int
    stacks_pooled: int
    stacks_leaked: int
    stack_size: int
    guard: Literal["madvise", "mprotect"]

def stats() -> _Stats: ...
def _register_decorator(decorator: Callable[[object], object], /) -> None: ...
def _check_interpreter() -> None: ...
