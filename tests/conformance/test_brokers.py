"""The shipped conformance suite on every broker."""

from conveyor.testing.conformance import install

install(globals())
