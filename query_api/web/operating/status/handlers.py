"""Route of the status."""

from litestar import get
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from query_api.access.rules import Permission, Principal
from query_api.web.answers.problems import documented
from query_api.web.operating.status.composing import compose
from query_api.web.operating.status.picture import Picture
from query_api.web.operating.status.records import Status
from query_api.web.requests.bodies import JsonRequest
from query_api.web.resource import Resource
from shared.access.credentials import Role

Kept = NamedDependency[SkipValidation[Picture]]


@get(
    "/",
    permission=Permission.READ,
    summary="Get the state of all processes",
    response_description="The status.",
    responses=documented(),
)
async def show_status(request: JsonRequest, picture: Kept) -> Status:
    """Processes wherever they run, what `devicestat doctor` finds in the database, queue, dead letters and blocks.

    The response is from memory, up to two seconds old; `examined_at` is the age of the parts that take longer to read.
    Brokers are as the ingestors see them. The checks with messages of their own and those of a host, such as of free
    disk space, are those of `devicestat doctor` alone. Only an admin sees hosts and process ids.
    """
    principal: Principal = request.scope["auth"]
    reading = await picture.reading()
    return compose(reading, picture.examination, with_hosts=principal.role == Role.ADMIN)


router = Resource("/status", route_handlers=[show_status], tags=["operation"])
