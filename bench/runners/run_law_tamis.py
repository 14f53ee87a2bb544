"""Tamis's part of the benchmark of the law-question curation: the recipe as it is shipped, one worker.

The time includes loading the compiled kernels, checking the plan and writing the manifest; it excludes importing.
"""

import argparse
import dataclasses
import json
import time

from tamis.recipe import load_recipe

ENTITIES = ["EMAIL_ADDRESS", "PHONE_NUMBER", "US_SSN", "CREDIT_CARD", "IBAN", "IP_ADDRESS"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("input")
    parser.add_argument("output")
    parser.add_argument("--pii", action="store_true")
    options = parser.parse_args()
    recipe = load_recipe("law_questions", [f"input.path={options.input}"])
    stages = [
        dict(stage, supported_entities=ENTITIES) if stage["use"] == "PiiModifier" else stage
        for stage in recipe.stages
        if options.pii or stage["use"] != "PiiModifier"
    ]
    dataset = dataclasses.replace(recipe, stages=tuple(stages)).dataset()
    begin = time.process_time()
    result = dataset.to_json(options.output, partition_on="split", keep_rejects=False, workers=1, progress="off")
    print(json.dumps({"seconds": time.process_time() - begin, "kept": result.tally.kept}))


# Worker processes may import this module again.
if __name__ == "__main__":
    main()
