"""Answers for MQTT brokers that ask over HTTP which clients may connect, publish and subscribe (ADR 38).

A question comes with the secret MQTT_AUTH_SECRET (`query_api/web/gate.py`). `question.py` reads it, JSON or form.
`decisions.py` answers it: `known_devices.py` has the devices with their tokens, `rules.py` what each client may do.
`handlers.py` puts the answer into the form of EMQX and rmqtt, `go_auth.py` into that of mosquitto-go-auth.
"""
