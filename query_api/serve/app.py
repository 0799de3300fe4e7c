"""Wire and serve the query API: the entry point of `devicestat serve`."""

import asyncio
import socket
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from litestar import Litestar, Response
from litestar.di import Provide
from prometheus_client import CollectorRegistry

from query_api.access.confirming import Credentials
from query_api.access.keyring import Keyring, has_administrator
from query_api.analyses import histogram
from query_api.analyses import immediate as analysis
from query_api.analyses import requests as analysis_requests
from query_api.analyses import results as analysis_results
from query_api.analyses.schedules import routes as schedules
from query_api.analyses.wanted import provide_wanted
from query_api.calendar.json_times import encode_in_parts
from query_api.dashboard import assets, shell, vendored
from query_api.devices import handlers as devices
from query_api.devices import rotation
from query_api.devices.keys import keys_of
from query_api.devices.mqtt import go_auth
from query_api.devices.mqtt import handlers as mqtt
from query_api.devices.mqtt.decisions import Decisions
from query_api.devices.mqtt.known_devices import KnownDevices
from query_api.devices.tokens import Tokens
from query_api.queue.addresses import CallbackRules
from query_api.queue.channels import ENDED
from query_api.queue.quotas import Quotas
from query_api.queue.waiting import Waits
from query_api.readings import buckets
from query_api.readings import listing as readings
from query_api.readings import submit as stats
from query_api.readings.formats.exports import Exports
from query_api.readings.formats.suffixes import FormatSuffixes
from query_api.readings.intake import Intake
from query_api.readings.live import handlers as live
from query_api.readings.live.feeds import CHANNELS, Live
from query_api.readings.plots import series
from query_api.readings.plots import several as several_series
from query_api.readings.waiting import FairQueue
from query_api.readings.write_batcher import WriteBatcher
from query_api.serve.pools import Pools, open_pools
from query_api.serve.probe import probe
from query_api.serve.status import Status
from query_api.serve.tuning import DEFAULT, Tuning
from query_api.web.answers import problems
from query_api.web.answers.compression import Compression
from query_api.web.answers.head import HeadRequests
from query_api.web.answers.sources import AnalysedReadings
from query_api.web.answers.vary import Vary
from query_api.web.cross_origin import cross_origin
from query_api.web.docs import document as docs
from query_api.web.docs import page as docs_page
from query_api.web.failures import HANDLERS
from query_api.web.gate import Gate, require_rules
from query_api.web.limits.rate_limit import requests_a_minute
from query_api.web.limits.turns import SlowReads, Turns, TurnsMetrics
from query_api.web.metrics import MeasuredRequests
from query_api.web.operating import audit, keys, sessions
from query_api.web.operating.dead_letters import routes as dead_letters
from query_api.web.operating.operation import operation_routes
from query_api.web.operating.sign_ins import SignIns
from query_api.web.operating.status import handlers as status
from query_api.web.operating.status.picture import Picture
from query_api.web.requests.bodies import MAX_BODY_BYTES, JsonRequest
from query_api.web.requests.known_parameters import KnownParameters
from query_api.web.requests.strict_records import StrictRecords
from query_api.web.requests.times import provide_period
from shared.broker.outbox import apply_outbox
from shared.dead_letters.replaying import Decoder
from shared.event_loop.garbage import frozen_objects
from shared.postgres.connections import Connection
from shared.postgres.listening import Notifications
from shared.postgres.starting import first_connection
from shared.readings.model import duration
from shared.serving.asgi import ASGIApp
from shared.serving.closed import hosts_of_api, require_closed
from shared.serving.service import listen, serve_http
from shared.serving.telemetry import Health
from shared.settings import Settings
from shared.status.process import Identity, Kind
from shared.status.reporting import reported, with_pool

_log = structlog.get_logger()


async def serve(
    settings: Settings,
    stop: asyncio.Event,
    *,
    decoder_of: Callable[[Settings], Decoder],
    insecure: bool = False,
    tuning: Tuning = DEFAULT,
) -> None:
    """Serve the API until the event is set, then finish the requests in progress.

    `decoder_of`: returns the ingestor's decoder of messages, for dead letters.

    At the start it waits for the database up to START_TIMEOUT. Raises DevicestatError at the start: login refused,
    wrong schema version, port in use, or an API that other hosts can reach while AUTH is off, unless `insecure`.
    """
    require_closed(settings, insecure=insecure)
    listener = listen(settings.http_host, settings.http_port, "DEVICESTAT_HTTP_PORT")
    with listener:
        async with first_connection(settings.database, "api start", settings.start_timeout, stop) as connection:
            if connection is None:
                return
            await _warn_of_no_key(connection, settings)
        await _serve(settings, listener, stop, tuning, decoder_of(settings))


async def _serve(
    settings: Settings, listener: socket.socket, stop: asyncio.Event, tuning: Tuning, decoder: Decoder
) -> None:
    health = Health("database")
    registry = CollectorRegistry()
    async with open_pools(settings, tuning.pool_wait_s) as pools:
        notifications = Notifications(settings.database, [ENDED, *CHANNELS])
        keyring = Keyring(pools.credentials, asyncio.get_running_loop().time)
        credentials = Credentials(settings.database, registry, tuning.live.held_s)
        feeds = Live(settings.database, notifications, credentials, tuning.live)
        batcher = WriteBatcher(pools.store, feeds.interest, FairQueue(registry, tuning.waiting), tuning.store_wait_s)
        picture = Picture(pools.status)
        given = {
            **_given(settings, pools, batcher, credentials, registry, tuning),
            "notifications": notifications,
            "live": feeds,
            "waits": Waits(pools.quick, notifications, stop),
            "keyring": keyring if settings.auth == "on" else None,
            "decoder": decoder,
            "sign_ins": SignIns(asyncio.get_running_loop().time),
            "mqtt": mqtt.CountedDecisions(_decisions(settings, pools), registry),
            "picture": picture,
        }
        gate = Gate(keyring if settings.auth == "on" else None, settings.metrics_token, settings.mqtt_auth_secret)
        app = create_app(settings, given, gate, health, registry)
        background = {
            "last use of keys": keyring.note_use(),
            "credentials of streams": credentials.run(),
            "notifications": notifications.run(),
            "write batcher": batcher.run(),
            "database probe": probe(pools.probe, health, tuning.probe_interval_s),
            "broker outbox": apply_outbox(settings, registry),
            "examination": picture.examine(),
        }
        process = Identity.own(Kind.API, _address(listener))
        figures = Status(health, registry, lambda: feeds.streams)
        reports = reported(process, with_pool(pools.status), health, figures.document)
        async with reports, asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(work, name=name) for name, work in background.items()]
            tasks.create_task(feeds.run(stop), name="live")
            _log.info("serving", address=_address(listener))
            proxies, hosts = list(settings.trusted_proxies), hosts_of_api(settings)
            around = _around(app, settings, registry)
            with frozen_objects():
                await serve_http(
                    around, listener, stop, hosts=hosts, trusted_proxies=proxies, limits=tuning.connections
                )
            for task in running:
                task.cancel()
        await keyring.note_use_now()


def _around(app: Litestar, settings: Settings, registry: CollectorRegistry) -> ASGIApp:
    """Return the application with what surrounds it, from the network inwards: addresses, metrics, headers, gzip."""
    varying = Vary(Compression(app), ["Origin"] if settings.cors_origins else [])
    return FormatSuffixes(HeadRequests(MeasuredRequests(varying, registry)))


def _given(
    settings: Settings,
    pools: Pools,
    batcher: WriteBatcher,
    credentials: Credentials,
    registry: CollectorRegistry,
    tuning: Tuning,
) -> Mapping[str, object]:
    """Return the dependencies of handlers that need no task, by parameter name."""
    turns = TurnsMetrics(registry)
    return {
        "database": pools.quick,
        "slow_reads": SlowReads(
            pools.slow, Turns("slow reads", tuning.slow_reads, tuning.pool_wait_s, turns), settings.query_timeout
        ),
        "exports": Exports(
            settings.database,
            Turns("streams", tuning.streams, tuning.pool_wait_s, turns),
            credentials,
            tuning.readers,
            tuning.parts,
        ),
        "intake": Intake(pools.quick, batcher, duration(settings.oldest_age)),
        "callback_rules": CallbackRules(
            settings.webhook_secret is not None, settings.webhook_allow_private, settings.webhook_ports
        ),
        "analysed": AnalysedReadings(registry),
        "quotas": Quotas(settings.schedules_per_key, settings.queued_per_key),
        "tokens": Tokens(
            settings.device_secret,
            administered=settings.tells_broker,
            by_key=settings.broker_passwords is not None,
        ),
        "device_keys": keys_of(settings),
    }


def _decisions(settings: Settings, pools: Pools) -> Decisions:
    clock = asyncio.get_running_loop().time
    devices = KnownDevices(pools.credentials, clock)
    form = settings.mqtt_topic
    return Decisions(devices, form, clock)


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def create_app(
    settings: Settings, given: Mapping[str, object], gate: Gate, health: Health, registry: CollectorRegistry
) -> Litestar:
    """Return the application. `given`: the dependencies of its handlers, by parameter name."""
    known = KnownParameters()
    static = assets.read_assets()
    app = Litestar(
        route_handlers=[
            devices.router, rotation.router, stats.router, readings.router, series.router,
            several_series.router, buckets.router, live.router,
            analysis.router, histogram.router, analysis_requests.router,
            analysis_results.router, schedules.router,
            sessions.router, keys.router, audit.router, dead_letters.router, status.router,
            problems.router,
            *([mqtt.router, go_auth.router] if settings.mqtt_auth_secret is not None else []),
            *operation_routes(health, registry),
            *shell.routes(static), assets.route(static), docs_page.start_script, docs.openapi_document,
        ],
        dependencies={
            "period": Provide(provide_period, sync_to_thread=False),
            "wanted": Provide(provide_wanted, sync_to_thread=False),
            **{name: _handed(value) for name, value in given.items()},
        },
        exception_handlers=HANDLERS,
        after_request=_encode,
        middleware=[*requests_a_minute(settings.rate_limit), gate, known],
        cors_config=cross_origin(list(settings.cors_origins)),
        request_class=JsonRequest,
        request_max_body_size=MAX_BODY_BYTES,
        openapi_config=docs.configuration(
            secured=gate.is_closed, brokers=settings.mqtt_auth_secret is not None,
            assets=static.address(vendored.SWAGGER_UI),
        ),
        plugins=[StrictRecords()],
        logging_config=None,
    )  # fmt: skip
    require_rules(app)
    known.learn(app)
    return app


async def _encode(response: Response[Any]) -> Response[Any]:
    """Encode the content of a response of JSON, as the application's after_request."""
    if type(response) is Response and not isinstance(response.content, bytes | str | None):
        response.content = await encode_in_parts(response.content)
    return response


def _handed(value: object) -> Provide:
    return Provide(lambda: value, sync_to_thread=False)


async def _warn_of_no_key(connection: Connection, settings: Settings) -> None:
    if settings.auth == "on" and not await has_administrator(connection):
        _log.warning("there is no admin key: create one with `devicestat keys create --role admin`")
