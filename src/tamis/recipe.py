"""Recipe files: TOML in, a plan out, every name checked and the nearest valid one offered.

::

    [input]
    path = "corpus/*.jsonl.gz"        # a file, folder, glob, URL, or a list of these

    [[stage]]
    use = "WordCountFilter"           # a name from STAGES, or "your_module:YourClass"
    min_words = 16                    # the stage's own settings, and where they apply:
    score_field = "words"             # text_field, score_field and invert

    [output]
    path = "curated"
    partition_on = "split"

    [run]
    workers = 2

A filter is wrapped in ``ScoreFilter`` and a modifier in ``Modify``, as they would be in Python.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

from tamis.building import build
from tamis.dataset import DocumentDataset
from tamis.errors import RecipeError, TamisError, UnknownNameError, hint
from tamis.filters.base import DocumentFilter, Score, ScoreFilter
from tamis.filters.percentile import PercentileFilter
from tamis.filters.where import Where, parse_expression
from tamis.io.files import kind_of, list_files
from tamis.io.source import LimitedSource
from tamis.modifiers import DocumentModifier, Modify
from tamis.selection.split import DEFAULT_PROPORTIONS, Split, StratifiedSplit
from tamis.stage import FoldThenStage, Sequential, Stage, Step

__all__ = [
    "STAGES",
    "Recipe",
    "build",
    "find_stage",
    "load_recipe",
    "read_toml",
    "shipped_recipes",
    "toml_value",
    "with_settings",
]


def _where(expression: str) -> Stage:
    """Keep the documents for which a condition holds, e.g. ``expression = "score >= 0"``."""
    return Where(parse_expression(expression))


def _split(
    proportions: Mapping[str, float] | None = None,
    seed: int = 0,
    by: str = "id",
    stratify_by: str | None = None,
    column: str = "split",
) -> Step:
    """Add a column that names each document's part, e.g. ``proportions = { train = 0.95, validation = 0.05 }``."""
    shares = dict(proportions or DEFAULT_PROPORTIONS)
    if stratify_by is None:
        return Split(shares, seed=seed, by=by, column=column)
    return StratifiedSplit(shares, stratify_by, seed=seed, by=by, column=column)


def _scorer(name: str, settings: Any, who: str) -> DocumentFilter:
    """The filter of that name."""
    where = f"{who} of {name}"
    if settings is not None and not isinstance(settings, Mapping):
        message = f"{where}: settings are those of the filter, {{ name = value }}; got {settings!r}."
        raise RecipeError(message)
    made = build(find_stage(name, where), settings or {}, where)
    if not isinstance(made, DocumentFilter):
        message = f"{where}: {name} is no filter, so it has no score."
        raise RecipeError(message)
    return made


def _score(
    filter: str, score_field: str, settings: Mapping[str, Any] | None = None, text_field: str | None = None
) -> Step:
    """Add a column with the score of a filter and drop nothing, e.g. ``filter = "WordCountFilter"``."""
    return Score(_scorer(filter, settings, "Score"), score_field, text_field)


def _percentile(
    filter: str | None = None,
    column: str | None = None,
    *,
    drop_lowest: float = 0.0,
    drop_highest: float = 0.0,
    settings: Mapping[str, Any] | None = None,
    text_field: str | None = None,
    score_field: str | None = None,
) -> Step:
    """Drop the lowest or highest scores by their share, e.g. ``filter = "WordCountFilter"``, ``drop_lowest = 0.05``."""
    scorer = None if filter is None else _scorer(filter, settings, "PercentileFilter")
    return PercentileFilter(scorer, column, drop_lowest, drop_highest, text_field, score_field)


STAGES: Mapping[str, str | Callable[..., Step | Sequential]] = {
    "AegisClassifier": "tamis.classifiers.aegis:AegisClassifier",
    "AlphaFilter": "tamis.filters:AlphaFilter",
    "BadWordsFilter": "tamis.filters:BadWordsFilter",
    "BoilerPlateStringFilter": "tamis.filters:BoilerPlateStringFilter",
    "BoilerPlateStringModifier": "tamis.modifiers:BoilerPlateStringModifier",
    "BulletsFilter": "tamis.filters:BulletsFilter",
    "c4_quality": "tamis.filters:c4_quality",
    "C4LineRemover": "tamis.modifiers:C4LineRemover",
    "CaseNormalizer": "tamis.modifiers:CaseNormalizer",
    "CodeCommentRemover": "tamis.modifiers:CodeCommentRemover",
    "CommonEnglishWordsFilter": "tamis.filters:CommonEnglishWordsFilter",
    "CommonWordsFilter": "tamis.filters:CommonWordsFilter",
    "ContentTypeClassifier": "tamis.classifiers.topic:ContentTypeClassifier",
    "CurlyBracketsFilter": "tamis.filters:CurlyBracketsFilter",
    "ControlCharacterRemover": "tamis.modifiers:ControlCharacterRemover",
    "DistributedDataClassifier": "tamis.classifiers.base:DistributedDataClassifier",
    "DomainClassifier": "tamis.classifiers.topic:DomainClassifier",
    "EllipsisFilter": "tamis.filters:EllipsisFilter",
    "Embed": "tamis.models.embed:Embed",
    "FastTextClassifierFilter": "tamis.filters:FastTextClassifierFilter",
    "FastTextLabelModifier": "tamis.modifiers:FastTextLabelModifier",
    "FastTextLangId": "tamis.filters:FastTextLangId",
    "FastTextLanguageFilter": "tamis.filters:FastTextLanguageFilter",
    "FastTextQualityFilter": "tamis.filters:FastTextQualityFilter",
    "fineweb": "tamis.filters:fineweb",
    "fineweb_quality": "tamis.filters:fineweb_quality",
    "FineWebEduClassifier": "tamis.classifiers.edu:FineWebEduClassifier",
    "FineWebMixtralEduClassifier": "tamis.classifiers.edu:FineWebMixtralEduClassifier",
    "FineWebNemotronEduClassifier": "tamis.classifiers.edu:FineWebNemotronEduClassifier",
    "GeneralCommentToCodeFilter": "tamis.filters:GeneralCommentToCodeFilter",
    "gopher_quality": "tamis.filters:gopher_quality",
    "gopher_repetition": "tamis.filters:gopher_repetition",
    "HasText": "tamis.modifiers:HasText",
    "HistogramFilter": "tamis.filters:HistogramFilter",
    "HTMLBoilerplateFilter": "tamis.filters:HTMLBoilerplateFilter",
    "HtmlToText": "tamis.modifiers:HtmlToText",
    "Generate": "tamis.models.generation:Generate",
    "InstructionDataGuardClassifier": "tamis.classifiers.instruction_data_guard:InstructionDataGuardClassifier",
    "LineRemover": "tamis.modifiers:LineRemover",
    "LongWordFilter": "tamis.filters:LongWordFilter",
    "LoremIpsumFilter": "tamis.filters:LoremIpsumFilter",
    "MarkdownRemover": "tamis.modifiers:MarkdownRemover",
    "massive_text": "tamis.filters:massive_text",
    "MeanWordLengthFilter": "tamis.filters:MeanWordLengthFilter",
    "MultilingualDomainClassifier": "tamis.classifiers.topic:MultilingualDomainClassifier",
    "NewlineNormalizer": "tamis.modifiers:NewlineNormalizer",
    "NewLinesToWordsFilter": "tamis.filters:NewLinesToWordsFilter",
    "NonAlphaNumericFilter": "tamis.filters:NonAlphaNumericFilter",
    "NumberOfLinesOfCodeFilter": "tamis.filters:NumberOfLinesOfCodeFilter",
    "NumbersFilter": "tamis.filters:NumbersFilter",
    "ParenthesesFilter": "tamis.filters:ParenthesesFilter",
    "PercentileFilter": _percentile,
    "PerExtensionFilter": "tamis.filters:PerExtensionFilter",
    "PerplexityFilter": "tamis.filters:PerplexityFilter",
    "PiiModifier": "tamis.pii:PiiModifier",
    "PiiSpans": "tamis.pii:PiiSpans",
    "PornographicUrlsFilter": "tamis.filters:PornographicUrlsFilter",
    "PromptCompletion": "tamis.tuning.rows:PromptCompletion",
    "PromptTaskComplexityClassifier": "tamis.classifiers.prompt_task:PromptTaskComplexityClassifier",
    "PunctuationFilter": "tamis.filters:PunctuationFilter",
    "PythonCommentToCodeFilter": "tamis.filters:PythonCommentToCodeFilter",
    "QualityClassifier": "tamis.classifiers.topic:QualityClassifier",
    "QuotationNormalizer": "tamis.modifiers:QuotationNormalizer",
    "QuotationRemover": "tamis.modifiers:QuotationRemover",
    "Rename": "tamis.modifiers:Rename",
    "RepeatedLinesByCharFilter": "tamis.filters:RepeatedLinesByCharFilter",
    "RepeatedLinesFilter": "tamis.filters:RepeatedLinesFilter",
    "RepeatedParagraphsByCharFilter": "tamis.filters:RepeatedParagraphsByCharFilter",
    "RepeatedParagraphsFilter": "tamis.filters:RepeatedParagraphsFilter",
    "RepeatingDuplicateNGramsFilter": "tamis.filters:RepeatingDuplicateNGramsFilter",
    "RepeatingTopNGramsFilter": "tamis.filters:RepeatingTopNGramsFilter",
    "Score": _score,
    "SectionNumberFormatter": "tamis.modifiers:SectionNumberFormatter",
    "SentenceCountFilter": "tamis.filters:SentenceCountFilter",
    "ShortLinesFilter": "tamis.filters:ShortLinesFilter",
    "Slicer": "tamis.modifiers:Slicer",
    "Split": _split,
    "SubstringFilter": "tamis.filters:SubstringFilter",
    "SymbolsToWordsFilter": "tamis.filters:SymbolsToWordsFilter",
    "TagList": "tamis.tuning.rows:TagList",
    "TextCleaner": "tamis.modifiers:TextCleaner",
    "TokenCountFilter": "tamis.filters:TokenCountFilter",
    "TokenizerFertilityFilter": "tamis.filters:TokenizerFertilityFilter",
    "UnicodeNormalizer": "tamis.modifiers:UnicodeNormalizer",
    "UnicodeReformatter": "tamis.modifiers:UnicodeReformatter",
    "UrlBlocklistFilter": "tamis.filters:UrlBlocklistFilter",
    "UrlRemover": "tamis.modifiers:UrlRemover",
    "UrlsFilter": "tamis.filters:UrlsFilter",
    "Where": _where,
    "WhiteSpaceFilter": "tamis.filters:WhiteSpaceFilter",
    "WhitespaceNormalizer": "tamis.modifiers:WhitespaceNormalizer",
    "WordCountFilter": "tamis.filters:WordCountFilter",
    "WordsWithoutAlphabetsFilter": "tamis.filters:WordsWithoutAlphabetsFilter",
    "XMLHeaderFilter": "tamis.filters:XMLHeaderFilter",
}
"""Every name that ``use`` knows."""

READERS: Mapping[str, Callable[..., DocumentDataset]] = {
    "jsonl": DocumentDataset.read_json,
    "parquet": DocumentDataset.read_parquet,
    "csv": DocumentDataset.read_csv,
    "xml": DocumentDataset.read_xml,
    "hub": DocumentDataset.read_hub,
}
"""Every format that an input may have; "hub" takes the name of a data set for a path."""

_INPUT = {"path", "format", "text_field", "columns", "add_filename", "add_id"}
_INPUT |= {"delimiter", "names", "types", "row", "split", "config"}
_OUTPUT = {"path", "format", "compression", "write_to_filename", "partition_on", "keep_rejects"}
_RUN = {"workers", "engine", "address", "max_bad", "strict", "split_size"}
_SECTIONS = {"input": _INPUT, "output": _OUTPUT, "run": _RUN}
_WRAPPER = {"text_field", "score_field", "invert"}


@dataclass(frozen=True)
class Recipe:
    """A recipe file, checked."""

    name: str
    input: Mapping[str, Any]
    stages: tuple[Mapping[str, Any], ...]
    output: Mapping[str, Any] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""

    def dataset(self, limit: int | None = None) -> DocumentDataset:
        """The dataset with every stage appended; with ``limit``, of the first so many records only."""
        settings = dict(self.input)
        path = settings.pop("path", None)
        if path is None:
            message = f"{self.name}: [input] names no path. Add it, or pass --set input.path=..."
            raise RecipeError(message)
        kind = settings.pop("format", None) or _guess(path)
        if kind not in READERS:
            raise UnknownNameError.of(str(kind), READERS, kind="format", where=f"{self.name}: [input]")
        read = READERS[kind]
        options = [name for name in inspect.signature(read).parameters if name in _INPUT]
        for key in settings:
            if key not in options:
                raise UnknownNameError.of(key, options, kind=f"option of {kind} files", where=f"{self.name}: [input]")
        dataset = read(path, **settings)
        if limit is not None:
            dataset = DocumentDataset(LimitedSource(dataset.plan.source, limit))
        return dataset.append(*(step for several in self.parts() for step in several))

    def parts(self) -> tuple[tuple[Step, ...], ...]:
        """The steps of each stage, in order: a rule set is several."""
        return tuple(self._step(n, stage).steps() for n, stage in enumerate(self.stages, start=1))

    def _step(self, number: int, settings: Mapping[str, Any]) -> Step | Sequential:
        where = f"{self.name}: stage {number}"
        rest = dict(settings)
        use = rest.pop("use", None)
        if not isinstance(use, str):
            message = f'{where} does not say which stage to use. Add use = "...". {hint("", STAGES)}'
            raise RecipeError(message)
        make = find_stage(use, where)
        wrapper = {k: rest.pop(k) for k in _WRAPPER & rest.keys() if k not in inspect.signature(make).parameters}
        where = f"{where} ({use})"
        made = build(make, rest, where, also=tuple(_WRAPPER))
        return _wrap(made, wrapper, where)


def _guess(path: Any) -> str:
    """The format that the first path's name says; a folder is looked into, and what says nothing is JSON Lines."""
    first = str(path[0] if isinstance(path, list) and path else path)
    kind, _ = kind_of(first)
    if kind is None and Path(first).is_dir():
        with contextlib.suppress(TamisError):  # said when it is read
            kind = list_files(first)[0].format
    return kind or "jsonl"


def find_stage(use: str, where: str) -> Callable[..., Any]:
    """What makes the stage of that name, or ``module:name``; ``where`` says who asks, for the error message.

    Raises:
        RecipeError, UnknownNameError: There is none.
    """
    target = STAGES.get(use, use if ":" in use else None)
    if target is None:
        raise UnknownNameError.of(use, STAGES, kind="stage", where=where)
    if not isinstance(target, str):
        return target
    module, _, name = target.partition(":")
    try:
        return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]
    except ModuleNotFoundError as error:
        message = f"{where}: the module {module!r} cannot be imported ({error}). Run from its folder, or install it."
        raise RecipeError(message) from error
    except AttributeError as error:
        raise UnknownNameError.of(name, dir(importlib.import_module(module)), kind="class", where=where) from error


def _wrap(made: Any, wrapper: dict[str, Any], where: str) -> Step | Sequential:
    if isinstance(made, DocumentFilter):
        return ScoreFilter(made, **wrapper)
    if isinstance(made, DocumentModifier):
        if set(wrapper) - {"text_field"}:
            raise UnknownNameError.of(min(set(wrapper) - {"text_field"}), ["text_field"], kind="option", where=where)
        return Modify(made, **wrapper)
    if wrapper:
        raise UnknownNameError.of(min(wrapper), [], kind="option", where=where)
    if isinstance(made, Stage | FoldThenStage | Sequential):
        return made
    message = f"{where} is a {type(made).__name__}; a recipe uses filters, modifiers and stages."
    raise RecipeError(message)


# -- reading -------------------------------------------------------------------------------------------------


def shipped_recipes(section: str = "input") -> dict[str, Path]:
    """The recipes that come with Tamis and have that section, by name: ``input`` those to run, ``model`` to tune."""
    folder = Path(str(resources.files("tamis"))) / "recipes"
    found = sorted(folder.glob("*.toml"))
    return {path.stem: path for path in found if section in tomllib.loads(path.read_text(encoding="utf-8"))}


def load_recipe(name: str | Path, settings: Sequence[str] = ()) -> Recipe:
    """Read a recipe file, or a shipped recipe by its name, with ``key=value`` settings on top.

    Keys are ``section.option`` (``input.path``, ``run.workers``), or ``Stage.option`` with the stage's name or
    its number (``WordCountFilter.min_words=20``, ``stage.2.min_words=20``). Values are TOML; what is not is text.
    """
    content, title, file = read_toml(name)
    return with_settings(_from_toml(content, file, title), settings)


def with_settings(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """The recipe with ``key=value`` settings on top, as :func:`load_recipe` has them."""
    for setting in settings:
        recipe = _with_setting(recipe, setting)
    return recipe


def read_toml(name: str | Path, section: str = "input") -> tuple[dict[str, Any], str, str]:
    """What a recipe file holds, or a shipped recipe of that name; its title; and the name of the file.

    Raises:
        RecipeError: There is no such file, or it is no TOML.
    """
    path = Path(name)
    shipped = shipped_recipes(section)
    if not path.is_file() and str(name) in shipped:  # a folder may be called as a recipe is
        path = shipped[str(name)]
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        beside = [p.name for p in path.parent.glob("*.toml")] if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, beside, n=1)
        also = f" Did you mean {close[0]!r}?" if close else ""
        message = f"there is no recipe file {path}.{also} Shipped recipes: {', '.join(shipped)}."
        raise RecipeError(message) from error
    except (OSError, UnicodeDecodeError) as error:
        message = f"the recipe {path} cannot be read: {error}"
        raise RecipeError(message) from error
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = f"{path} is not valid TOML: {error}"
        raise RecipeError(message) from error
    title = text.splitlines()[0].lstrip("# ").strip() if text.startswith("#") else ""
    return content, title, path.name


def _from_toml(content: Mapping[str, Any], name: str, title: str) -> Recipe:
    for key in content:
        if key not in {*_SECTIONS, "stage"}:
            raise UnknownNameError.of(key, [*_SECTIONS, "stage"], kind="section", where=name)
    stages = content.get("stage", [])
    if not isinstance(stages, list) or not all(isinstance(s, dict) for s in stages):
        message = f"{name}: stages are written as [[stage]], with two brackets."
        raise RecipeError(message)
    sections = {}
    for section, options in _SECTIONS.items():
        found = content.get(section, {})
        if not isinstance(found, dict):
            message = f"{name}: [{section}] must be a section."
            raise RecipeError(message)
        for key in found:
            if key not in options:
                raise UnknownNameError.of(key, options, kind="option", where=f"{name}: [{section}]")
        sections[section] = found
    return Recipe(name, sections["input"], tuple(stages), sections["output"], sections["run"], title)


def toml_value(text: str) -> Any:
    """A value as TOML writes it; what is none is text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _with_setting(recipe: Recipe, setting: str) -> Recipe:
    key, equals, text = setting.partition("=")
    owner, dot, option = key.strip().rpartition(".")
    if not equals or not dot:
        message = f"--set {setting}: write it as section.option=value or Stage.option=value."
        raise RecipeError(message)
    value = toml_value(text.strip())
    if owner in _SECTIONS:
        if option not in _SECTIONS[owner]:
            raise UnknownNameError.of(option, _SECTIONS[owner], kind="option", where=f"--set {key}")
        sections = {"input": recipe.input, "output": recipe.output, "run": recipe.run}
        sections[owner] = {**sections[owner], option: value}
        return replace(recipe, input=sections["input"], output=sections["output"], run=sections["run"])
    number = _stage_number(recipe, owner, key)
    stages = list(recipe.stages)
    stages[number] = {**stages[number], option: value}
    return replace(recipe, stages=tuple(stages))


def _stage_number(recipe: Recipe, owner: str, key: str) -> int:
    names = [str(stage.get("use")) for stage in recipe.stages]
    kind, _, number = owner.partition(".")
    if kind == "stage" and number.isdigit() and 1 <= int(number) <= len(names):
        return int(number) - 1
    if names.count(owner) == 1:
        return names.index(owner)
    if owner in names:
        message = f"--set {key}: the recipe uses {owner} {names.count(owner)} times; say stage.NUMBER.option."
        raise RecipeError(message)
    raise UnknownNameError.of(owner, [*_SECTIONS, *names], kind="section or stage", where=f"--set {key}")
