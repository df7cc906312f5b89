"""A TCP fault proxy for tests, which understands the Redis and the PostgreSQL protocol.

with FaultProxy.before(server.url) as proxy:
    proxy.at(3, "after", Act.RESET)      # the reply of the third command is lost
    client = connect(proxy.url)
"""

from tests.faults.proxy import FaultProxy
from tests.faults.rules import Act, Command, Hook, Phase, Rule, kill

__all__ = ["Act", "Command", "FaultProxy", "Hook", "Phase", "Rule", "kill"]
