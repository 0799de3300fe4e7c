"""Authentication and authorization for MQTT brokers over HTTP (ADR 38).

A request has the secret MQTT_AUTH_SECRET (`query_api/web/gate.py`). `question.py` decodes it, from JSON or a form.
`decisions.py` decides: `known_devices.py` caches the devices with their tokens, which
`gathered.py` looks up together; `rules.py` has the rules of a client.
`handlers.py` responds in the form of EMQX and rmqtt, `go_auth.py` in that of mosquitto-go-auth.
"""
