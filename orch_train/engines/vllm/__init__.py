"""The vLLM engine: `AsyncLLM` in the runner's event loop, tokens in and tokens out.

=============  ==================================================================================
`settings`     what ``rollouts.engine_config`` may say, with defaults for CPU and GPU
`engine`       `RolloutEngine` on top of the adapter: checks, timeouts, every failure an EngineError
`adapter`      the only module of the runner that knows vLLM's interface, and its version range
`worker`       what runs inside vLLM's own processes: takes weights from shared memory
`factory`      builds the engine by name
=============  ==================================================================================
"""
