"""Tasks made from a cache of real responses: what can be executed is drawn first, then worded.

The way from a cache to tasks, one room a step:

1. :mod:`~orch_env.synthesis.corpus`: the recorded calls and, where there are any, recorded traces.
2. :mod:`~orch_env.synthesis.mining`: which output feeds which argument.
3. :mod:`~orch_env.synthesis.templates`: workflows, mined from traces and newly composed.
4. :mod:`~orch_env.synthesis.sampling`: draws of recorded calls that fill a template.
5. :mod:`~orch_env.synthesis.writing`: a request for each draw.
6. :mod:`~orch_env.synthesis.checking`: what a request must say and must not give away.
7. :mod:`~orch_env.synthesis.pipeline`: the steps as resumable stages, splits, reports.
"""
