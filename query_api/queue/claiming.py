"""The statements with which a worker claims requests: those of people and those of schedules in turn (ADR 42).

Within each class the worker goes from one device to the next, round robin (ADR 18). So a device's backlog delays a
request of another device by one analysis at most, and the cost of a claim does not depend on the backlog.
"""

from collections.abc import Sequence
from datetime import timedelta
from itertools import chain, zip_longest

from psycopg.rows import dict_row

from query_api.queue.claims import LEASE, Claim
from shared.postgres.connections import RETRYABLE, Connection

SPARE = 16
"""Further devices, or requests of one device, that a claim considers, as other workers claim concurrently."""

_WAKE = """
    UPDATE analysis_requests SET run_after = NULL
    WHERE id IN (SELECT id FROM analysis_requests
                 WHERE status = 'queued' AND run_after IS NOT NULL AND run_after <= now()
                 ORDER BY run_after LIMIT 1000 FOR UPDATE SKIP LOCKED)
"""


async def wake(connection: Connection) -> None:
    """Make requests claimable whose retry is due."""
    await connection.execute(_WAKE)


# circle: the devices with queued requests of the class, from the one after `after` on and round to it. Each costs one
# index search, whatever its backlog. Deleted devices are excluded by a lookup for each, which is cheaper than a join
# with all devices.
#
# turn: a device's first request comes after as many requests of others as the device has running, and each of its next
# requests after one more. Then the order of the circle applies. If enough devices have none running, the first request
# of each is enough.
#
# next: only requests that are claimed are locked. LIMIT 1 prevents a join that reads all queued requests: the planner
# may choose it while its statistics do not contain the backlog.
_CLAIM = """
    WITH RECURSIVE running AS MATERIALIZED (
        SELECT device_id, count(*) AS held FROM analysis_requests WHERE status = 'running' GROUP BY device_id
    ), circle (device_id, lap, position) AS (
        SELECT %(after)s::bigint, 0, 0
        UNION ALL
        SELECT following.device_id, following.lap, position + 1
        FROM circle CROSS JOIN LATERAL (
            (SELECT device_id, circle.lap FROM analysis_requests
             WHERE status = 'queued' AND run_after IS NULL AND {asked} AND device_id > circle.device_id
             ORDER BY device_id LIMIT 1)
            UNION ALL
            (SELECT device_id, 1 FROM analysis_requests
             WHERE circle.lap = 0 AND status = 'queued' AND run_after IS NULL AND {asked}
             ORDER BY device_id LIMIT 1)
            LIMIT 1
        ) AS following (device_id, lap)
        WHERE following.lap = 0 OR following.device_id <= %(after)s
    ), idle AS MATERIALIZED (
        SELECT device_id FROM circle
        WHERE position > 0 AND device_id NOT IN (SELECT device_id FROM running)
          AND (SELECT true FROM devices WHERE devices.id = circle.device_id)
        LIMIT %(limit)s + %(spare)s
    ), few AS MATERIALIZED (
        SELECT count(*) < %(limit)s + %(spare)s AS are_idle FROM idle
    ), candidate AS MATERIALIZED (
        SELECT device_id, 0 AS held FROM idle
        UNION ALL
        SELECT device_id, held FROM running
        WHERE (SELECT are_idle FROM few) AND (SELECT true FROM devices WHERE devices.id = running.device_id)
    ), turn AS MATERIALIZED (
        SELECT waiting.id, row_number() OVER (
                   ORDER BY held + waiting.number, candidate.device_id <= %(after)s, candidate.device_id
               ) AS place
        FROM candidate CROSS JOIN LATERAL (
            SELECT id, number
            FROM (SELECT id, attempts, row_number() OVER (ORDER BY id) AS number FROM analysis_requests
                  WHERE device_id = candidate.device_id AND status = 'queued' AND run_after IS NULL AND {asked}
                  ORDER BY id
                  LIMIT CASE WHEN (SELECT are_idle FROM few)
                             THEN %(limit)s + %(spare)s / (SELECT count(*) FROM candidate) ELSE 1 END) AS oldest
            WHERE attempts = 0 OR NOT %(fresh)s
        ) AS waiting
    ), next AS MATERIALIZED (
        SELECT request.id, place
        FROM (SELECT id, place FROM turn ORDER BY place) AS turn CROSS JOIN LATERAL (
            SELECT id, status, run_after FROM analysis_requests WHERE analysis_requests.id = turn.id
            LIMIT 1 FOR UPDATE SKIP LOCKED
        ) AS request
        WHERE request.status = 'queued' AND request.run_after IS NULL
        LIMIT %(limit)s
    )
    UPDATE analysis_requests AS request
    SET status = 'running', joinable = false, attempts = attempts + 1, started_at = now(),
        lease_token = gen_random_uuid(), lease_until = now() + %(lease)s
    FROM next WHERE request.id = next.id
    RETURNING place, request.id, device_id, lower(period) AS start, upper(period) AS end, figures, attempts,
              lease_token AS token
"""
_OF_PEOPLE = _CLAIM.format(asked="NOT by_schedule").encode()
_OF_SCHEDULES = _CLAIM.format(asked="by_schedule").encode()


class _Round:
    """The round of a worker through the devices with requests of one class."""

    def __init__(self, statement: bytes, after: int) -> None:
        self._statement = statement
        self._after = after

    async def claim(self, connection: Connection, limit: int, lease: timedelta, *, fresh: bool) -> list[Claim]:
        if limit == 0:
            return []
        given = {"after": self._after, "limit": limit, "spare": limit + SPARE, "lease": lease, "fresh": fresh}
        async with connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(self._statement, given)
            rows = sorted(await cursor.fetchall(), key=lambda row: row.pop("place"))
        claims = [Claim(**row) for row in rows]
        self._after = claims[-1].device_id if claims else self._after
        return claims


class Turns:
    """A worker's turns: between people and schedules, and between the devices of each.

    While both classes have requests, each gets every other claim. So neither waits for the backlog of the other.
    """

    def __init__(self, after: int = 0) -> None:
        """`after`: the device after which the rounds begin."""
        self._people = _Round(_OF_PEOPLE, after)
        self._schedules = _Round(_OF_SCHEDULES, after)
        self._are_people_next = True

    async def claim(
        self, connection: Connection, limit: int, lease: timedelta = LEASE, *, fresh: bool = False
    ) -> list[Claim]:
        """Claim up to `limit` queued requests, in the order in which they should begin.

        `fresh`: only requests that no worker has claimed before.
        """
        share = (limit + self._are_people_next) // 2
        people = await self._people.claim(connection, share, lease, fresh=fresh)
        schedules: list[Claim] = []
        try:
            schedules = await self._schedules.claim(connection, limit - len(people), lease, fresh=fresh)
            if len(people) == share:
                left = limit - share - len(schedules)
                people += await self._people.claim(connection, left, lease, fresh=fresh)
        except RETRYABLE:  # others are claimed already
            if not people and not schedules:
                raise
        return self._alternated(people, schedules)

    def _alternated(self, people: Sequence[Claim], schedules: Sequence[Claim]) -> list[Claim]:
        pairs = zip_longest(people, schedules) if self._are_people_next else zip_longest(schedules, people)
        if len(people) != len(schedules):
            self._are_people_next = len(people) < len(schedules)
        return [one for one in chain.from_iterable(pairs) if one is not None]
