"""Schedulers: how far to train each trial. The protocol and the calls a driver makes: `protocol`."""

from tunewright.engines.schedulers.asha import ASHA
from tunewright.engines.schedulers.freeze_thaw import FreezeThaw
from tunewright.engines.schedulers.halving import SuccessiveHalving
from tunewright.engines.schedulers.hyperband import Hyperband
from tunewright.engines.schedulers.median import MedianStopping
from tunewright.engines.schedulers.pbt import PBT, Segment, params_at, schedule
from tunewright.engines.schedulers.protocol import (
    Action,
    Begun,
    Clone,
    New,
    Resume,
    Scheduler,
    SchedulerBase,
    TrialView,
    Wait,
)

__all__ = [
    "ASHA",
    "PBT",
    "Action",
    "Begun",
    "Clone",
    "FreezeThaw",
    "Hyperband",
    "MedianStopping",
    "New",
    "Resume",
    "Scheduler",
    "SchedulerBase",
    "Segment",
    "SuccessiveHalving",
    "TrialView",
    "Wait",
    "params_at",
    "schedule",
]
