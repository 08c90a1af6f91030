"""Circuits: the parts of a model that carry a task, the paths between them, and how good an account of it they are.

circuit = find_circuit(subject, task(subject, "ioi"))
[node.name for node in circuit.nodes], circuit.criteria.faithfulness
"""

from tools.circuits.criteria import Criteria, Need, Removal, judge
from tools.circuits.knockout import Knockout
from tools.circuits.search import Circuit, CircuitEdge, CircuitNode, find_circuit
from tools.circuits.tasks import TASKS, known, task

__all__ = [
    "TASKS",
    "Circuit",
    "CircuitEdge",
    "CircuitNode",
    "Criteria",
    "Knockout",
    "Need",
    "Removal",
    "find_circuit",
    "judge",
    "known",
    "task",
]
