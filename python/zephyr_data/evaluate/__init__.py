r"""MT-Bench and AlpacaEval, on the endpoints, the store and the strict reading of `feedback`.

    zephyr-data evaluate mt-bench --questions question.jsonl --model models.yaml \\
        --judge judge.yaml --judge-prompts judge_prompts.jsonl --out mt-bench
    zephyr-data evaluate alpaca-eval --answers mine.json --reference gpt4.json \\
        --judge judge.yaml --out alpaca-eval

This module imports nothing, so that `zephyr-data --help` stays quick.
"""
