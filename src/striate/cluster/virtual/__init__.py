"""Replicas on machines that nobody has here: real minibatches, real gradients, and a clock of events that says in which order.

The replica, the shards, their rules and rounds are those of a real run; only time is imagined. A step, a message, an update
take what they are said to take, and what follows from that (who pulls what, how stale a push is, what that does to the loss)
follows here as it would there. So 32 replicas can be watched on one core, and the same seed gives the same run to the bit.
Costs without contents, of jobs too large to be learned here: `striate.cluster.simulate`. Source: Dean et al. 2012, section 4.1.
"""

from striate.cluster.virtual.team import Course as Course
from striate.cluster.virtual.team import Look as Look
from striate.cluster.virtual.team import Machines as Machines
from striate.cluster.virtual.team import Team as Team
from striate.cluster.virtual.world import train as train
