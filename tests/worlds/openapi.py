"""How tests read an OpenAPI document of ours, and the errors that it must have."""

from collections.abc import Iterator
from typing import Any

from lambdas.common.errors import ApiError


def response_of(document: dict[str, Any], path: str, method: str, status: int | str) -> dict[str, Any]:
    """One response of an operation, also where it stands among the document's components."""
    response: dict[str, Any] = document["paths"][path][method]["responses"][str(status)]
    if "$ref" not in response:
        return response
    return document["components"]["responses"][response["$ref"].rpartition("/")[2]]


def api_errors(package: str) -> list[type[ApiError]]:
    """All errors that a package of ``lambdas`` defines."""

    def below(kind: type[ApiError]) -> Iterator[type[ApiError]]:
        for each in kind.__subclasses__():
            yield from (each, *below(each))

    return [kind for kind in below(ApiError) if kind.__module__.startswith(f"lambdas.{package}.")]
