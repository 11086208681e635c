"""From a configuration to a reward: presets, mixes, schedules, functions of a user."""
