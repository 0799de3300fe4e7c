"""Roles and clients of dynamic security. All access that no role allows is denied.

Each device has a role of its own: one role for all devices would need `%u`, which Mosquitto has since 2.1 (ADR 37). The
role's name has the device's id and not its key, because an id is never reused.
"""

from shared.broker.dynamic_security.records import Acl, DefaultAccess, DynsecClient, DynsecRole, RoleOfClient
from shared.broker.names import DOCTOR_TOPICS, device_name, probe_topic
from shared.settings import TopicFilter

INGESTOR_ROLE = "devicestat-ingestor"
ADMIN_ROLE = "admin"
"""The name that `mosquitto_ctrl dynsec init` uses."""
DEFAULT_ACCESS = (
    DefaultAccess("publishClientSend", allow=False),
    # It also applies to a session that subscribed before access was restricted.
    DefaultAccess("publishClientReceive", allow=False),
    DefaultAccess("subscribe", allow=False),
    DefaultAccess("unsubscribe", allow=True),
)


def device_client(device_id: int, fingerprint: str) -> DynsecClient:
    """Return a device's client. It is bound to its client id, so no device can take over another's session."""
    name = device_name(device_id)
    return DynsecClient(username=name, clientid=name, textdescription=fingerprint, roles=(RoleOfClient(name),))


def device_role(device_id: int, key: str, form: TopicFilter) -> DynsecRole:
    """Return a device's role, which allows to publish to its own topic and nothing else."""
    topic = f"{form.prefix}{key}{form.suffix}"
    return DynsecRole(device_name(device_id), (Acl("publishClientSend", topic, allow=True),))


def ingestor_role(form: TopicFilter) -> DynsecRole:
    """Return the role for the user of MQTT_URL, which all ingestor processes and the doctor use.

    The broker checks the filter of a shared subscription with its `$share/<group>/`.
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
    """Return the role for the user of MQTT_ADMIN_URL, as `mosquitto_ctrl dynsec init` defines it."""
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
