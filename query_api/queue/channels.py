"""Channels on which the queue notifies. Triggers of the schema send the latter two."""

QUEUED = "analysis_requests"
"""A request was queued."""
ENDED = "analysis_ended"
"""A request has finished, or was deleted. The payload is its id."""
CALLBACKS_DUE = "analysis_callbacks"
"""Callbacks are due."""
