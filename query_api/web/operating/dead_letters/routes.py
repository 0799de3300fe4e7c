"""The router of dead letters."""

from query_api.web.operating.dead_letters.counts import count_dead_letters
from query_api.web.operating.dead_letters.listing import list_dead_letters, show_dead_letter
from query_api.web.operating.dead_letters.purges import purge_dead_letters
from query_api.web.operating.dead_letters.replays import replay_dead_letters
from query_api.web.operating.dead_letters.totals import total_dead_letters
from query_api.web.resource import Resource

router = Resource(
    "/dead-letters",
    route_handlers=[
        list_dead_letters, count_dead_letters, total_dead_letters, show_dead_letter, replay_dead_letters,
        purge_dead_letters,
    ],
    tags=["dead letters"],
)  # fmt: skip
