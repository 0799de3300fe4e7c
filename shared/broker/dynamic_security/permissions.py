"""What each client of the broker may do; all else is forbidden.

`%u` in a rule, which would do for all devices with one role, needs Mosquitto 2.1: each device has a role (ADR 37).
Its name is its number and not its key, because a number is never used again.
"""

from shared.broker.dynamic_security.records import Acl, DefaultAccess, DynsecClient, DynsecRole, RoleOfClient
from shared.broker.names import DOCTOR_TOPICS, device_name, probe_topic
from shared.settings import TopicFilter

INGESTOR_ROLE = "devicestat-ingestor"
ADMIN_ROLE = "admin"
"""As `mosquitto_ctrl dynsec init` calls it."""
DEFAULT_ACCESS = (
    DefaultAccess("publishClientSend", allow=False),
    # Also to a session that subscribed before the broker was closed.
    DefaultAccess("publishClientReceive", allow=False),
    DefaultAccess("subscribe", allow=False),
    DefaultAccess("unsubscribe", allow=True),
)


def device_client(number: int, fingerprint: str) -> DynsecClient:
    """Bound to its client id, so that no device takes over another's session."""
    name = device_name(number)
    return DynsecClient(username=name, clientid=name, textdescription=fingerprint, roles=(RoleOfClient(name),))


def device_role(number: int, key: str, form: TopicFilter) -> DynsecRole:
    """A device publishes to its own topic, and does nothing else."""
    topic = f"{form.prefix}{key}{form.suffix}"
    return DynsecRole(device_name(number), (Acl("publishClientSend", topic, allow=True),))


def ingestor_role(form: TopicFilter) -> DynsecRole:
    """For the user of MQTT_URL: the ingestor, however many processes of it, and the doctor.

    A shared subscription is held against the rules as it stands, with its $share and the name of its group.
    """
    plain = f"{form.prefix}+{form.suffix}"
    subscribed = (plain, f"$share/+/{plain}", DOCTOR_TOPICS, "$SYS/broker/#")
    return DynsecRole(
        INGESTOR_ROLE,
        (
            *(_allow("subscribePattern", pattern) for pattern in subscribed),
            *(_allow("unsubscribePattern", pattern) for pattern in subscribed),
            *(_allow("publishClientReceive", topic) for topic in (plain, DOCTOR_TOPICS, "$SYS/broker/#")),
            *(_allow("publishClientSend", topic) for topic in (DOCTOR_TOPICS, probe_topic(form))),
        ),
    )


def admin_role() -> DynsecRole:
    """For the user of MQTT_ADMIN_URL, as `mosquitto_ctrl dynsec init` has it."""
    control, system = "$CONTROL/dynamic-security/#", "$SYS/#"
    return DynsecRole(
        ADMIN_ROLE,
        (
            _allow("publishClientSend", control),
            *(_allow("publishClientReceive", topic) for topic in (control, system, "#")),
            *(_allow("subscribePattern", topic) for topic in (control, system, "#")),
            _allow("unsubscribePattern", "#"),
        ),
    )


def _allow(acltype: str, topic: str) -> Acl:
    return Acl(acltype, topic, allow=True)
