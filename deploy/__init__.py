"""The `devicestat` command, and all of Devicestat on one machine.

- `cli` and `cli_dead_letters` parse, call and map errors; `command` is what several commands do.
- `local` is `devicestat up`: `postgres` and `mosquitto` are the embedded servers, `supervisor` keeps the
  `children` running, `mosquitto_log` explains lines that an operator has to act on, `leftovers` ends those of an `up`
  that was killed, and `panel` says where to look.
- `processes` is `devicestat ingest --processes N`, and `processes_telemetry` what it shows of them.
- `simulate` is devices that do not exist: `waveform` is what they measure, `publisher` sends it, `api_client`
  registers them.
- `doctor` looks for what is wrong; `dead_letters` at what was refused, and `replay` puts it back in.
- `terminal` is what a person sees of it all.
- `setup.sh` is `make setup`.

It may know every other package; none of them knows it.
"""
