"""The vLLM engine: `AsyncLLM` in the runner's event loop, tokens in and tokens out.

===================  ============================================================================
`settings`           what ``rollouts.engine_config`` may say, with defaults for CPU and GPU
`engine`             `RolloutEngine` on the adapter: checks, timeouts, failures as `EngineError`
`adapter`            the only module of the runner that knows vLLM's interface and its version
`worker`             inside vLLM's own processes: takes weights from shared memory
`collective_worker`  the same, where the learner sends its weights to these processes itself
===================  ============================================================================
"""
