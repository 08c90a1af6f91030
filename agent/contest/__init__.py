"""The contest of rivals: descriptions of a unit are told apart by trials on the subject, chosen for what they tell.

    plan    the policy thinks of trials; those with most expected information for their cost are chosen
    run     by the typed tools (`agent.toolbox`), in batches
    update  every rival is weighed by what it had expected; what the evidence refutes is dropped
    revise  the policy refines, splits or adds rivals; those that say the same are merged

until one rival is left and nothing more can be learned, or rounds change nothing, or the budget is spent. See
docs/design/0022-the-contest-of-rivals.md. A new way to think of trials is a policy: `agent.contest.policy`.
"""
