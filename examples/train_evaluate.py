"""Train and evaluate: the code of docs/tutorials/train_evaluate.md."""

from orch_train import GRPO, GRPOConfig

config = (
    GRPOConfig()
    .environment(env_config={"tasks": "harbour", "split": "train", "max_turns": 3})
    .model("tiny")
    .rollouts(max_context=384, max_tokens_per_turn=48)
    .env_runners(num_env_runners=0)
    .training(lr=3e-4, groups_per_batch=2, group_size=4)
    .evaluation(tasks="harbour", split="heldout", num_tasks=4)
)
algo = config.build_algo()
for _ in range(2):
    result = algo.train()
    runners = result["env_runners"]
    print(result["training_iteration"], runners["num_episodes"], runners["episode_return_mean"])

measured = algo.evaluate()
print(measured["success"], measured["greedy"]["success"], measured["num_episodes"])

algo.save_to_path("checkpoint")
algo.stop()
with GRPO.from_checkpoint("checkpoint") as resumed:
    print(resumed.train()["training_iteration"])
