"""The training loop, its run directory, checkpoints and exact resume."""

from striate.train.batches import Batches as Batches
from striate.train.batches import MemoryRows as MemoryRows
from striate.train.batches import StreamedRows as StreamedRows
from striate.train.contrastive import CDSettings as CDSettings
from striate.train.contrastive import ContrastiveLearner as ContrastiveLearner
from striate.train.loop import Hooks as Hooks
from striate.train.loop import LoopSettings as LoopSettings
from striate.train.loop import save_start as save_start
from striate.train.loop import train as train
from striate.train.run import Run as Run
from striate.train.schedules import ScheduleSettings as ScheduleSettings
from striate.train.schedules import schedule as schedule
from striate.train.updates import Rates as Rates
