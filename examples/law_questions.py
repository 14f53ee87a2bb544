"""Questions with tags as tuning rows: ``python examples/law_questions.py Posts.xml law_questions/``.

The recipe ``law_questions`` in Python; both write the same files.
"""

import sys

from tamis import DocumentDataset, Modify, ScoreFilter, Sequential, Split
from tamis.filters import RepeatingTopNGramsFilter, Where, WordCountFilter, parse_expression
from tamis.modifiers import HasText, HtmlToText, Rename, SectionNumberFormatter, TextCleaner, UnicodeReformatter
from tamis.pii import PiiModifier
from tamis.tuning.rows import PromptCompletion, TagList

NAMES = {"id": "Id", "question": ["Body", "content", "body"], "title": "Title", "score": "Score", "tags": "Tags"}
PRIVATE = ["EMAIL_ADDRESS", "PHONE_NUMBER", "ADDRESS", "US_SSN", "CREDIT_CARD", "IBAN", "IP_ADDRESS"]
TEMPLATE = (
    "You tag questions so that they can be found. Give the tags of the question below as a plain list, divided by "
    "commas. Common tags: {tag_list}\n\nTitle: {title}\nQuestion: {question}\nTags:\n"
)

source, target = sys.argv[1:]
curate = Sequential(
    [
        Rename(NAMES, optional=["score"], numbers=["score"]),
        HasText(["title", "question"]),
        TagList(most=100),
        Modify(UnicodeReformatter(unescape_html=False)),
        Modify(UnicodeReformatter(), text_field="title"),
        Modify(HtmlToText(code="keep", links="text")),
        Modify(TextCleaner()),
        Modify(TextCleaner(), text_field="title"),
        Modify(PiiModifier(supported_entities=PRIVATE)),
        Modify(PiiModifier(supported_entities=PRIVATE), text_field="title"),
        Modify(SectionNumberFormatter()),
        Modify(SectionNumberFormatter(), text_field="title"),
        ScoreFilter(WordCountFilter(min_words=16), score_field="words"),
        Where(parse_expression("score >= 0 or score is None")),
        ScoreFilter(RepeatingTopNGramsFilter(n=5, max_repeating_ngram_ratio=0.15), score_field="top_5gram_share"),
        PromptCompletion(TEMPLATE, body="question", clears=["tag_list"]),
        Split({"train": 0.95, "validation": 0.05}, seed=1),
    ]
)
dataset = curate(DocumentDataset.read(source, text_field="question"))
print(dataset.to_json(target, partition_on="split", keep_rejects=True))
