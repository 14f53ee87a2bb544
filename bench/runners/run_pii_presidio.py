"""Presidio's part of the benchmark of PII detection.

quality   its analyzer as it comes, with a spaCy pipeline: named entities, patterns, context words
patterns  its recognisers with patterns alone, called in a loop, without the pipeline: the least it can cost
"""

import argparse
import json
import time
from pathlib import Path

from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
from presidio_analyzer.nlp_engine import NlpEngineProvider


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=["quality", "patterns"])
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--pipeline", required=True)
    parser.add_argument("--entities", nargs="*")
    options = parser.parse_args()
    texts = [json.loads(line)["text"] for line in options.input.open(encoding="utf-8")]
    found = []
    if options.task == "quality":
        configuration = {"nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": options.pipeline}]}
        engine = NlpEngineProvider(nlp_configuration=configuration).create_engine()
        analyzer = AnalyzerEngine(nlp_engine=engine, supported_languages=["en"])
        analyzer.analyze("warm up: a@b.org", language="en")
        start = time.process_time()
        found = [analyzer.analyze(text, language="en") for text in texts]
        entities = analyzer.get_supported_entities("en")
    else:
        registry = RecognizerRegistry(supported_languages=["en"])
        registry.load_predefined_recognizers(languages=["en"])
        wanted = set(options.entities)
        every = registry.get_recognizers(language="en", all_fields=True)
        recognisers = [r for r in every if wanted & set(r.supported_entities) and "Spacy" not in type(r).__name__]
        entities = sorted({e for r in recognisers for e in r.supported_entities if e in wanted})
        start = time.process_time()
        for text in texts:
            spans = []
            for recogniser in recognisers:
                spans.extend(recogniser.analyze(text, [e for e in recogniser.supported_entities if e in wanted], None))
            found.append(spans)
    seconds = time.process_time() - start
    spans = [[[r.start, r.end, r.entity_type, r.score] for r in results or []] for results in found]
    options.output.write_text(json.dumps({"seconds": seconds, "entities": entities, "spans": spans}))


if __name__ == "__main__":
    main()
