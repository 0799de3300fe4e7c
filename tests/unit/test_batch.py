"""What a batch makes of a message: each reading with a time of its own, also where its device is found later."""

from hypothesis import given
from hypothesis import strategies as st
from mqtt5 import PublishPacket

from ingestor.batch import Batch
from ingestor.decode import Measurement, Refusal
from shared.models import Reason
from shared.settings import parse_topic_filter

NOON = 1_769_860_800_000_000
FILTER = parse_topic_filter("devices/+/stats")
good = st.just(Measurement(1, 2, 3, None))
bad = st.just(Refusal(b"0", Reason.INVALID_READING, "no reading"))


@given(st.integers(1, 128), st.lists(good | bad, min_size=1), st.booleans())
def test_the_times_of_a_message_are_a_step_apart_in_its_order(
    step: int, results: list[Measurement | Refusal], known: bool
) -> None:
    batch = Batch(step)
    batch.add(PublishPacket("devices/7/stats", b"[]"), results, NOON, 7 if known else None, FILTER)
    batch.settle({"devices/7/stats": 7})
    times = [NOON + step * position for position in range(len(results))]
    assert [reading.recorded_at for reading in batch.readings] == [
        at for at, result in zip(times, results, strict=True) if isinstance(result, Measurement)
    ]
    assert [letter.received_at for letter in batch.dead_letters] == [
        at for at, result in zip(times, results, strict=True) if isinstance(result, Refusal)
    ]


def test_a_dead_letter_of_an_unknown_device_is_the_message_whole() -> None:
    batch = Batch()
    message = PublishPacket("devices/7/stats", b"[1,2]", content_type="text/plain", user_properties=[("note", "n")])
    batch.add(message, [Measurement(1, 2, 3, None)] * 2, NOON, None, FILTER)
    batch.settle({})
    (letter,) = batch.dead_letters
    assert (letter.topic, letter.content_type, letter.payload) == ("devices/7/stats", "text/plain", b"[1,2]")
    assert letter.reason is Reason.UNKNOWN_DEVICE
    assert batch.rejected == {Reason.UNKNOWN_DEVICE: 2}
