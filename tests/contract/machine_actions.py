"""All that parties do: calls that are mostly right, and now and then wrong in one way.

Every action takes a source of randomness, picks task, party, time and flaw (machine_choices), and
makes one call on the chain and its model (machine_world).
"""

from __future__ import annotations

from machine_fault_actions import FaultActions
from machine_payment_actions import PaymentActions
from machine_registry_actions import RegistryActions
from machine_round_actions import RoundActions
from machine_task_actions import TaskActions


class Parties(TaskActions, RoundActions, PaymentActions, FaultActions, RegistryActions):
    """Everybody who calls, over one example."""
