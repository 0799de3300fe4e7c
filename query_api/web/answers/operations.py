"""Add to the OpenAPI document what Litestar does not find by itself."""

from litestar import MediaType
from litestar.openapi.spec import Operation, RequestBody, Schema


def bound_array(operation: Operation, least: int, most: int) -> None:
    """Document the bounds of the array in a body that is an object or an array of objects."""
    assert isinstance(operation.request_body, RequestBody)
    body = operation.request_body.content[MediaType.JSON].schema
    assert isinstance(body, Schema)
    assert body.one_of is not None
    array = body.one_of[1]
    assert isinstance(array, Schema)
    array.min_items, array.max_items = least, most
