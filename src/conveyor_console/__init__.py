"""The operations console of Conveyor: REST API, identity, history, live events, alerts."""
