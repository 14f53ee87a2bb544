"""Classifiers: any model of a hub, a directory or your own, and the published families under their own names.

Importing this package loads no torch; a stage that needs it says so when it is built.
"""

from tamis.classifiers.aegis import AegisClassifier
from tamis.classifiers.base import DistributedDataClassifier
from tamis.classifiers.edu import FineWebEduClassifier, FineWebMixtralEduClassifier, FineWebNemotronEduClassifier
from tamis.classifiers.instruction_data_guard import InstructionDataGuardClassifier
from tamis.classifiers.prompt_task import PromptTaskComplexityClassifier
from tamis.classifiers.topic import (
    ContentTypeClassifier,
    DomainClassifier,
    MultilingualDomainClassifier,
    QualityClassifier,
)

__all__ = [
    "AegisClassifier",
    "ContentTypeClassifier",
    "DistributedDataClassifier",
    "DomainClassifier",
    "FineWebEduClassifier",
    "FineWebMixtralEduClassifier",
    "FineWebNemotronEduClassifier",
    "InstructionDataGuardClassifier",
    "MultilingualDomainClassifier",
    "PromptTaskComplexityClassifier",
    "QualityClassifier",
]
